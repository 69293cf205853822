/** Runs one story or measurement: `node story.js PATH`, started by the test or benchmark that holds the world. */

import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { openBrowser, visit } from './visit.js';
import { facts, found } from './world.js';

const path = process.argv[2];
const { default: story } = await import(`./${path}`);
const browser = await openBrowser();
let failed = true;
try {
  const seen = await visit(browser);
  try {
    const value = await story({ ...seen, browser });
    if (seen.faults.length > 0) throw new Error(`the page is not quiet:\n${seen.faults.join('\n')}`);
    if (value !== undefined) await found(value);
    failed = false;
  } catch (error) {
    await mkdir(facts.failures, { recursive: true });
    const picture = join(facts.failures, `${basename(path, '.js')}.png`);
    await seen.page.screenshot({ path: picture, fullPage: true });
    process.stderr.write(`${error.stack}\nat ${seen.page.url()}; picture: ${picture}\n${seen.faults.join('\n')}\n`);
  }
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);
