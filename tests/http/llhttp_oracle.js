// SPDX-License-Identifier: MIT
// llhttp as Node.js carries it, as a filter: one request in hexadecimal a line on standard input, one line of JSON each
// on standard output. Only the first message of a line is looked at. The parser object is used directly, without
// the checks that Node's http module adds, so that what is compared is llhttp.
'use strict';
const { HTTPParser, methods } = require('_http_common');
const NODE_METHODS = methods;

function parse(bytes) {
  const out = { error: '', head: false, done: false, fields: [], body: '', method: '', target: '' };
  const parser = new HTTPParser();
  const chunks = [];
  parser.initialize(HTTPParser.REQUEST, {});
  parser[HTTPParser.kOnHeaders] = (headers, url) => {
    if (!out.head) {
      out.fields.push(...headers);
      out.target += url;
    }
  };
  parser[HTTPParser.kOnHeadersComplete] = (major, minor, headers, method, url, status, reason, upgrade, keep) => {
    if (!out.head) {
      out.head = true;
      out.fields.push(...(headers || []));
      out.target += url || '';
      out.method = NODE_METHODS[method];
      out.minor = minor;
      out.upgrade = upgrade;
      out.keep_alive = keep;
    }
    return 0;
  };
  parser[HTTPParser.kOnBody] = (chunk) => {
    if (!out.done) chunks.push(Buffer.from(chunk));
  };
  parser[HTTPParser.kOnMessageComplete] = () => {
    out.done = true;
  };
  const rc = parser.execute(bytes);
  if (rc instanceof Error && !out.done) out.error = rc.code;
  parser.close();
  out.body = Buffer.concat(chunks).toString('latin1');
  return out;
}

const lines = require('fs').readFileSync(0, 'latin1').split('\n');
lines.pop();
process.stdout.write(lines.map((line) => JSON.stringify(parse(Buffer.from(line, 'hex')))).join('\n') + '\n');
