/** Korean and English: chosen, remembered, and for a Korean browser the first guess. */

import assert from 'node:assert/strict';
import { open, signIn } from '../acts.js';
import { visit } from '../visit.js';

export default async function ({ page, browser }) {
  await page.goto('/');
  await signIn(page);
  await open(page, 'networks');
  await page.getByRole('heading', { name: 'Networks', level: 1 }).waitFor();
  await page.getByRole('button', { name: '한국어' }).click();
  await isKorean(page);
  await page.reload();
  await isKorean(page);
  await page.getByRole('button', { name: 'English' }).click();
  await page.getByRole('heading', { name: 'Networks', level: 1 }).waitFor();
  assert.equal(await page.locator('html').getAttribute('lang'), 'en');

  const korean = await visit(browser, { locale: 'ko-KR' });
  await korean.page.goto('/');
  await korean.page.getByRole('button', { name: 'English' }).waitFor();
  assert.equal(await korean.page.locator('html').getAttribute('lang'), 'ko');
  assert.deepEqual(korean.faults, []);
}

async function isKorean(page) {
  await page.getByRole('heading', { name: '네트워크', level: 1 }).waitFor();
  assert.equal(await page.locator('html').getAttribute('lang'), 'ko');
  for (const part of [page.getByRole('main'), page.getByRole('navigation')]) {
    assert.doesNotMatch(await part.innerText(), /[a-z]{3}/u, 'some words stayed English');
  }
}
