// What _storm_app.py answers to GET /t/TOKEN-COUNT-NAP, put before the answers of cluster.js:
// node -r ./_storm_answers.js cluster.js PORT WORKERS
'use strict';

const http = require('node:http');

const create = http.createServer;
let finishing = false;
process.on('message', (message) => {
  if (message === 'finish') finishing = true;
});

http.createServer = (others) =>
  create((request, response) => {
    if (!request.url.startsWith('/t/')) return others(request, response);
    const [token, count, nap] = request.url.slice(3).split('-');
    const body = token.repeat(Number(count));
    const headers = { 'content-type': 'text/plain', 'content-length': body.length };
    const answer = () => {
      if (finishing) headers.connection = 'close';
      response.writeHead(200, headers);
      response.end(body);
    };
    if (nap === '0') answer();
    else setTimeout(answer, Number(nap));
  });
