// A stand-in for the service, to look at the pages without one: `node dev/server.js [--peers 1000] [--port 8055]`.
// Serves ../dist with the real headers, and an API that forgets everything. Keys: any name of a role, such as `admin`.
// Faults: `curl -X POST 'localhost:8055/fault?down=1'` (no answers), `?end=1` (sessions end), `?slow=800` (milliseconds).
import { createServer } from 'node:http';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { world } from './world.js';

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
};
const port = option('port', 8055);
const state = world(option('peers', 10));
const dist = join(fileURLToPath(new URL('.', import.meta.url)), '../../dist');
const fault = { down: 0, slow: 0 };
const streams = new Set();
let sessions = new Map();

const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'; trusted-types svelte-trusted-html default",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
};
const TYPES = { html: 'text/html; charset=utf-8', js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' };
const READ = ['read'];
const OPERATOR = [...READ, 'manage-networks', 'manage-peers', 'manage-hosts', 'manage-tokens', 'run-tests', 'control', 'deploy'];
const ROLES = { viewer: READ, operator: OPERATOR, admin: [...OPERATOR, 'manage-keys'] };

class Refusal extends Error {
  constructor(status, detail, field = '') {
    super(detail);
    Object.assign(this, { status, field });
  }
}

function tell(kind, about) {
  const event = state.event(kind, about);
  for (const stream of streams) stream.write(`data: ${JSON.stringify(event)}\n\n`);
}

function sessionOf(request) {
  const id = /mock=(\w+)/.exec(request.headers.cookie ?? '')?.[1];
  const session = sessions.get(id);
  if (!session) throw new Refusal(401, 'no session; sign in with an API key');
  return session;
}

async function bodyOf(request) {
  let text = '';
  for await (const part of request) text += part;
  return text === '' ? {} : JSON.parse(text);
}

async function api(request, response, url) {
  const path = url.pathname.slice('/api/v1'.length);
  const body = await bodyOf(request);
  if (request.method !== 'GET' && request.headers['x-cladnet-request'] !== '1') throw new Refusal(403, 'header missing');
  if (path === '/session') return session(request, body);
  const { actions } = sessionOf(request);
  if (path === '/events/watch') return watch(request, response);
  const watched = /^\/deployments\/([^/]+)\/watch$/.exec(path);
  if (watched) return follow(request, response, state.deployment(watched[1]));
  for (const [verb, pattern, action, handle] of state.routes({ tell, Refusal })) {
    const match = request.method === verb && pattern.exec(path);
    if (!match) continue;
    if (!actions.includes(action)) throw new Refusal(403, `a key of this role may not ${action}`);
    return { json: await handle(match.slice(1).map(decodeURIComponent), body, url.searchParams) };
  }
  throw new Refusal(404, `there is nothing at ${path}`);
}

function session(request, body) {
  if (request.method === 'GET') return { json: sessionOf(request) };
  if (request.method === 'DELETE') {
    sessions = new Map();
    return { status: 204 };
  }
  const actions = ROLES[body.apiKey];
  if (!actions) throw new Refusal(401, 'unknown API key');
  const id = Math.random().toString(36).slice(2);
  const made = { keyId: `k-${id}`, name: `${body.apiKey}@example`, role: body.apiKey, actions, expiresAt: new Date(Date.now() + 4e7) };
  sessions.set(id, made);
  return { json: made, headers: { 'set-cookie': `mock=${id}; Path=/; HttpOnly; SameSite=Strict` } };
}

function watch(request, response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  response.write(': hello\n\n');
  streams.add(response);
  request.on('close', () => streams.delete(response));
  return null;
}

/** Tells what `now` gives until it is finished. */
function follow(request, response, now) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  streams.add(response);
  const timer = setInterval(() => {
    response.write(`data: ${JSON.stringify(now())}\n\n`);
    if (now().state === 'finished') response.end();
  }, 300);
  request.on('close', () => (clearInterval(timer), streams.delete(response)));
  return null;
}

function page(response, path) {
  const file = join(dist, path === '/' ? 'index.html' : path);
  if (!file.startsWith(dist) || !existsSync(file)) return response.writeHead(404).end();
  response.writeHead(200, { ...HEADERS, 'content-type': TYPES[file.split('.').pop()] ?? 'application/octet-stream' });
  response.end(readFileSync(file));
}

function setFault(response, params) {
  for (const [name, value] of params) fault[name] = Number(value);
  if (fault.end) sessions = new Map();
  if (fault.end || fault.down) for (const stream of streams) stream.destroy();
  fault.end = 0;
  response.end();
}

createServer(async (request, response) => {
  const url = new URL(request.url, 'http://mock');
  if (url.pathname === '/fault') return setFault(response, url.searchParams);
  if (!url.pathname.startsWith('/api/')) return page(response, url.pathname);
  if (fault.down) return request.destroy();
  if (fault.slow) await new Promise((resolve) => setTimeout(resolve, fault.slow));
  try {
    const answer = await api(request, response, url);
    if (!answer) return;
    response.writeHead(answer.status ?? 200, { 'content-type': 'application/json', ...answer.headers });
    response.end(answer.json === undefined ? '' : JSON.stringify(answer.json));
  } catch (error) {
    const { status = 500, message, field } = error;
    const problem = { type: 'about:blank', title: 'Refused', status, detail: field ? `${field}: ${message}` : message, request_id: 'req-1f2e3d' };
    response.writeHead(status, { 'content-type': 'application/problem+json' });
    response.end(JSON.stringify(field ? { ...problem, field } : problem));
  }
}).listen(port, '127.0.0.1', () => console.log(`http://localhost:${port}`));
