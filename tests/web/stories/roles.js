/** A viewer is offered nothing that would be refused, finds back to where a link led, and is told when the session ends. */

import assert from 'node:assert/strict';
import { addPlainPeer, dialog, open, press, row, settled, signIn } from '../acts.js';
import { admin } from '../world.js';

const PAGES = [
  ['networks'],
  ...['peers', 'paths', 'connectivity', 'join', 'events', 'deployments'].map((tab) => ['networks', 'prod', tab]),
  ['deployments'],
  ['host-keys'],
  ['events'],
];

export default async function ({ page, context, expected }) {
  await admin('network', 'create', 'prod', '--hosts', '10');
  await addPlainPeer(context, 'prod', 'router-1');
  const viewer = await admin('key', 'create', '--role', 'viewer', '--name', 'dashboard');

  await open(page, 'networks', 'prod', 'events');
  await signIn(page, viewer.secret);
  await page.getByText('network.created').waitFor();
  assert.ok(page.url().endsWith('#/networks/prod/events'), `signing in led to ${page.url()}`);

  const refused = [];
  page.on('response', (response) => {
    const method = response.request().method();
    if (response.status() === 403 || method !== 'GET') refused.push(`${method} ${response.url()}: ${response.status()}`);
  });
  for (const place of PAGES) await pressAll(page, place);
  await drawerOf(page, 'router-1');
  assert.deepEqual(refused, [], 'a viewer was offered what is refused');

  // An admin is offered more: the search above would have found it.
  await press(page, 'Sign out');
  await signIn(page);
  await open(page, 'networks');
  await page.getByRole('button', { name: 'New network' }).waitFor();
  await press(page, 'Sign out');

  const short = await admin('key', 'create', '--role', 'viewer', '--name', 'short');
  await signIn(page, short.secret);
  await open(page, 'networks', 'prod', 'join');
  await page.getByRole('heading', { name: 'No tokens' }).waitFor();
  expected.push(/status of 401/u, /ERR_/u);
  await admin('key', 'revoke', short.key?.keyId ?? short.keyId);
  await page.getByText('Your session has ended.').waitFor();
  await signIn(page, viewer.secret);
  await page.getByRole('heading', { name: 'No tokens' }).waitFor();
}

/** Presses every button that a page has; dialogs that open are closed, and theirs are pressed as well. */
async function pressAll(page, place) {
  await open(page, ...place);
  await page.getByRole('main').locator('h1, h2').first().waitFor();
  await settled(page);
  const buttons = page.getByRole('main').getByRole('button');
  const window = page.getByRole('dialog');
  for (let at = 0; at < (await buttons.count()); at += 1) {
    if (await buttons.nth(at).isEnabled()) await buttons.nth(at).click();
    if (await window.isVisible()) await pressAllOf(page, window);
  }
}

async function pressAllOf(page, window) {
  const submits = window.locator('button[type=submit], button.main, button.danger');
  for (const one of await submits.all()) if (await one.isEnabled()) await one.click();
  await page.keyboard.press('Escape');
}

async function drawerOf(page, peer) {
  await open(page, 'networks', 'prod', 'peers');
  await row(page, 'Peers', peer).click();
  const drawer = dialog(page, peer);
  await drawer.waitFor();
  const names = (await drawer.getByRole('button').allTextContents()).map((name) => name.trim()).filter(Boolean);
  assert.deepEqual(names, [], 'a viewer can steer a peer');
  await press(drawer, 'Close');
}
