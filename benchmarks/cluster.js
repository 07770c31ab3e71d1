// The application of serve_app.py as a Node.js cluster, for serve.py: node cluster.js PORT WORKERS
//
// The default policy is kept: the primary accepts, and passes each connection's descriptor to the next worker in
// turn. SIGHUP replaces worker after worker as the manual of the module shows it: a new one listens before an old
// one is told to finish, disconnected, and killed if it has not gone after five seconds. A worker that dies is
// replaced; SIGTERM ends all.
'use strict';

const cluster = require('node:cluster');
const http = require('node:http');

const [port, workers] = process.argv.slice(2).map(Number);
const PATIENCE_MS = 5000;

function primary() {
  let stopping = false;
  const wanted = new Set(); // workers that are to be replaced should they die

  function add() {
    const worker = cluster.fork();
    wanted.add(worker);
    worker.on('exit', () => {
      if (wanted.delete(worker) && !stopping) add();
    });
    return worker;
  }

  function retire(worker) {
    wanted.delete(worker);
    if (worker.isDead()) return;
    const timer = setTimeout(() => worker.process.kill('SIGKILL'), PATIENCE_MS);
    worker.on('exit', () => clearTimeout(timer));
    worker.send('finish');
    worker.disconnect();
  }

  process.on('SIGHUP', () => {
    for (const old of [...wanted]) add().once('listening', () => retire(old));
  });
  process.on('SIGTERM', () => {
    stopping = true;
    for (const worker of wanted) worker.process.kill('SIGTERM');
    process.exit(0);
  });
  for (let n = 0; n < workers; n++) add();
}

function worker() {
  let finishing = false;
  const pid = String(process.pid);

  function answer(response, status, body) {
    const headers = { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(body) };
    if (finishing) headers.connection = 'close';
    response.writeHead(status, headers);
    response.end(body);
  }

  const server = http.createServer((request, response) => {
    if (request.url === '/') answer(response, 200, 'Hello, world!\n');
    else if (request.url === '/pid') answer(response, 200, pid);
    else if (request.url === '/sse') {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(`data: ${pid}\n\n`);
    } else answer(response, 404, 'Not here\n');
  });

  process.on('message', (message) => {
    if (message !== 'finish') return;
    finishing = true;
    server.close(() => process.exit(0)); // closes idle connections, and lets the others end
  });
  server.listen(port, '127.0.0.1');
}

if (cluster.isPrimary) primary();
else worker();
