/** Names that try to be something else are text, wherever they stand. */

import assert from 'node:assert/strict';
import { addPlainPeer, call, dialog, open, press, row, signIn, why } from '../acts.js';
import { join } from '../world.js';

const SCRIPT = '<script>alert(1)</script>';
const IMAGE = '"><img src=x onerror=alert(2)>';
const QUOTES = `'"\`{{7*7}}\${7*7}</b>&lt;`;
const MARKS = 'safe\u200fname';
const DESCRIPTION = `${IMAGE} ${QUOTES} \u05d0\u200f javascript:alert(3)`;
/** A kernel takes 64 bytes as a host name, whatever they are. */
const HOST = '<img/src=x onerror=alert(4)>';

export default async function ({ page, context, expected }) {
  expected.push(/status of 40[04] /u, /status of 422 /u);
  await call(context, 'POST', '/networks', {
    networkId: 'evil', name: SCRIPT, description: DESCRIPTION, expectedHosts: 10, ipv4AddressSpace: '10.99.0.0/16',
  });
  for (const name of [SCRIPT, IMAGE, QUOTES, MARKS]) await addPlainPeer(context, 'evil', name, { team: 'a' });
  const { secret } = await call(context, 'POST', '/keys', { role: 'admin', name: IMAGE });
  await join('one', 'evil', HOST);
  await join('two', 'evil');

  await page.goto('/');
  await signIn(page, secret);
  await says(page.getByRole('banner'), IMAGE);
  await open(page, 'networks');
  await says(page.getByRole('main'), SCRIPT, IMAGE, QUOTES);

  await open(page, 'networks', 'evil', 'peers');
  await says(page.getByRole('main'), SCRIPT, IMAGE, QUOTES, HOST, 'U+200F');
  await page.getByRole('searchbox').fill(IMAGE);
  await page.getByText('1 of 6').waitFor();
  await page.getByRole('searchbox').fill('');
  for (const name of [SCRIPT, HOST]) await drawerOf(page, name);

  await open(page, 'networks', 'evil', 'paths');
  await says(page.getByRole('table', { name: 'Paths' }), HOST);
  await why(page, 'two');
  await page.keyboard.press('Escape');

  await open(page, 'networks', 'evil', 'connectivity');
  await press(page, 'Start');
  await says(page.getByRole('table', { name: 'All pairs' }), HOST);
  await page.locator('figure [role=img]').first().hover({ position: { x: 200, y: 60 } });

  await open(page, 'networks', 'evil', 'join');
  await page.getByLabel('Labels').fill(`${SCRIPT}=${IMAGE}`);
  await press(page, 'Make a token');
  await page.getByRole('alert').first().waitFor();

  for (const place of [['networks', 'evil', 'events'], ['events']]) {
    await open(page, ...place);
    await says(page.getByRole('main'), IMAGE);
  }
  await dialogsOf(page);
  await open(page, 'networks', IMAGE, SCRIPT);
  await says(page.getByRole('heading'), IMAGE);
  await page.getByRole('alert').first().waitFor();
  await nothingCameAlive(page);
}

async function says(within, ...texts) {
  for (const text of texts) await within.getByText(text).first().waitFor();
  await nothingCameAlive(within.page());
}

/** No text of theirs became an element. */
async function nothingCameAlive(page) {
  const alive = await page.locator('[onerror], [src="x"], script:not([src]), #app script, a[href^="javascript:"]').count();
  assert.equal(alive, 0, 'a name became markup');
}

async function drawerOf(page, name) {
  await row(page, 'Peers', name).click();
  const drawer = dialog(page, name);
  await says(drawer, name);
  await press(drawer, 'Remove peer');
  await says(dialog(page, 'Remove peer'), name);
  await press(dialog(page, 'Remove peer'), 'Cancel');
  await press(drawer, 'Edit');
  await press(dialog(page, 'Edit'), 'Cancel');
  await press(drawer, 'Close');
}

async function dialogsOf(page) {
  await open(page, 'networks', 'evil');
  await press(page, 'Edit network');
  const edit = dialog(page, 'Edit network');
  assert.equal(await edit.getByLabel('Name').inputValue(), SCRIPT);
  assert.equal(await edit.getByLabel('Description').inputValue(), DESCRIPTION);
  await press(edit, 'Cancel');
  await press(page, 'Delete network');
  await says(dialog(page, 'Delete network'), SCRIPT);
  await press(dialog(page, 'Delete network'), 'Cancel');
}
