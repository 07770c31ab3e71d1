// A program for `fdpass keep` in Node.js, which cannot send descriptors over a datagram socket: a helper, whose program
// is the rest of the arguments, inherits the connection as its standard input and stores it.

const { spawnSync } = require("node:child_process");
const net = require("node:net");

const names = process.env.LISTEN_FDNAMES.split(":");
console.log(`start ${process.pid} ${names.join(" ")}`);

function store(connection) {
    const [command, ...words] = process.argv.slice(2);
    const done = spawnSync(command, words, { stdio: [connection._handle.fd, 1, 2] });
    console.log(`stored ${done.status}`);
}

function serve(connection) {
    connection.on("data", (data) => connection.end(`node answers: ${data}`));
}

if (names.length === 1) {
    net.createServer({ pauseOnConnect: true }, store).listen({ fd: 3 }, () => console.log("listening"));
} else {
    serve(new net.Socket({ fd: 4, readable: true, writable: true }));
}
