/** A deployment whose stream is refused, because too many watch, is asked for instead, until it is done. */

import assert from 'node:assert/strict';
import { open, row, signIn } from '../acts.js';

const ONE = /\/api\/v1\/deployments\/d-1$/u;
const STREAM = /\/api\/v1\/deployments\/d-1\/watch$/u;
/** Many times as long as between two questions; not so long that the silent stream of events is taken for dead. */
const LONG = 30_000;

export default async function ({ page, expected }) {
  expected.push(/status of 429 .*watch$/u);
  let state = 'connecting';
  let asked = 0;
  await page.route(ONE, (route) => {
    asked += 1;
    return route.fulfill({ json: deployment(state) });
  });
  await page.route(STREAM, (route) => route.fulfill({ status: 429 }));
  await page.clock.install();
  await page.goto('/');
  await signIn(page);
  await open(page, 'deployments', 'd-1');
  const line = row(page, 'Machines', 'one');
  for (state of ['inspecting', 'uploading', 'installing']) await line.getByText(state).waitFor();
  assert.ok(asked >= 3, 'it came by another way');

  state = 'done';
  await page.getByRole('heading', { name: 'Install done' }).waitFor();
  const before = asked;
  await page.clock.runFor(LONG);
  assert.equal(asked, before, 'what is done is asked for again');
}

/** A deployment of one machine in that state. */
function deployment(state) {
  const isDone = state === 'done';
  const nothing = { failure: '', detail: '', failedDuring: '', offeredFingerprint: '', bastion: '', system: '', agentVersion: '' };
  return {
    deploymentId: 'd-1', networkId: 'prod', action: 'install', createdAt: '2026-01-01T00:00:00Z', createdBy: 'key', concurrency: 10,
    state: isDone ? 'finished' : 'running', done: isDone ? 1 : 0, failed: 0, total: 1, unconfirmed: 0, claimed: true,
    hosts: [{ ...nothing, name: 'one', address: '192.0.2.1', port: 22, user: 'debian', hostId: '', state }],
  };
}
