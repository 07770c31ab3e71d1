// Node's end of a child_process channel: sends a handle, or receives one and serves on it.
//
//   node peer.cjs send-server         sends a net.Server that listens
//   node peer.cjs send-socket PORT    connects to PORT and sends the net.Socket
//   node peer.cjs recv                receives one handle, answers a client over it, and reports its type
//
// It exits when the other end of the channel is closed.
'use strict';
const net = require('net');
const [verb, port] = process.argv.slice(2);
let server;

process.on('disconnect', () => { if (server) server.close(); });

if (verb === 'send-server') {
  server = net.createServer();
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }, server));
} else if (verb === 'send-socket') {
  const socket = net.connect(Number(port), '127.0.0.1', () => process.send('a socket of node', socket));
} else {
  process.once('message', (message, handle) => {
    if (handle instanceof net.Server) {
      server = handle;
      server.once('connection', (client) => client.end(`node got: ${message}`));
      process.send('server');
    } else {
      handle.end(`node got: ${message}`);
      process.send('socket');
    }
  });
}
