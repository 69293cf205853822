/** The page of peers as a new visitor meets it: what comes over the wire, when the first rows are seen, what memory it takes. */

import { readFileSync } from 'node:fs';
import { addPlainPeers, call, open } from '../acts.js';
import { visit } from '../visit.js';
import { facts } from '../world.js';

export default async function ({ context, browser }) {
  const { network, peers, visits } = facts.given;
  await addPlainPeers(context, network, peers);
  const { secret } = await call(context, 'POST', '/keys', { role: 'viewer', name: 'visitor' });
  const found = [];
  for (let n = 0; n < visits; n += 1) found.push(await one(browser, secret, network, peers));
  return found;
}

/** A visit with empty caches, signed in already. */
async function one(browser, secret, network, peers) {
  const { context, page, faults } = await visit(browser);
  await context.addInitScript(noteFirstRows);
  await signedIn(context, secret);
  const client = await context.newCDPSession(page);
  const transferred = await countBytes(client);
  await open(page, 'networks', network, 'peers');
  const firstRowsMs = await (await page.waitForFunction(() => window.firstRows)).jsonValue();
  await page.locator(`table[aria-rowcount="${peers + 1}"]`).waitFor();
  const { page: pageBytes, api: apiBytes } = transferred;
  const { heapBytes, memoryBytes } = await memory(browser, client);
  if (faults.length > 0) throw new Error(faults.join('\n'));
  await context.close();
  return { pageBytes, apiBytes, firstRowsMs, heapBytes, memoryBytes };
}

/** Gives the browser a session's cookie, as the page would have got it. */
async function signedIn(context, apiKey) {
  const headers = { 'x-cladnet-request': '1', 'sec-fetch-site': 'same-origin' };
  const answer = await context.request.post('/api/v1/session', { data: { apiKey }, headers });
  if (!answer.ok()) throw new Error(`no session: ${answer.status()} ${await answer.text()}`);
}

/** Bytes of bodies and headers as they came over the wire, compressed where they are; the endless stream of events as far as it came. */
async function countBytes(client) {
  const urls = new Map();
  const bytes = { page: 0, api: 0 };
  const add = (requestId, length) => {
    bytes[urls.get(requestId)?.includes('/api/') ? 'api' : 'page'] += length;
  };
  const streams = new Set();
  client.on('Network.requestWillBeSent', ({ requestId, request }) => urls.set(requestId, request.url));
  client.on('Network.responseReceived', ({ requestId, type }) => type === 'EventSource' && streams.add(requestId));
  client.on('Network.dataReceived', ({ requestId, encodedDataLength }) => {
    if (streams.has(requestId)) add(requestId, encodedDataLength);
  });
  client.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => {
    if (!streams.has(requestId)) add(requestId, encodedDataLength);
  });
  await client.send('Network.enable');
  return bytes;
}

/** In the page: notes when rows of the table were first painted, in milliseconds since the visit began. */
function noteFirstRows() {
  const observer = new MutationObserver(() => {
    if (!document.querySelector('tbody th[scope=row]')) return;
    observer.disconnect();
    // The frame after the one that is being made shows it.
    requestAnimationFrame(() => requestAnimationFrame(() => (window.firstRows = performance.now())));
  });
  observer.observe(document, { childList: true, subtree: true });
}

/** What the page holds once its garbage is gone: by its scripts, and its process's own and shared pages in all. */
async function memory(browser, client) {
  await client.send('HeapProfiler.collectGarbage');
  const { usedSize: heapBytes } = await client.send('Runtime.getHeapUsage');
  const { processInfo } = await (await browser.newBrowserCDPSession()).send('SystemInfo.getProcessInfo');
  const sizes = processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => proportionalBytes(id));
  // Other renderers are spare ones, which hold no page.
  return { heapBytes, memoryBytes: Math.max(...sizes) };
}

function proportionalBytes(process) {
  const [, kib] = /^Pss:\s+(\d+) kB$/mu.exec(readFileSync(`/proc/${process}/smaps_rollup`, 'utf8'));
  return Number(kib) * 1024;
}
