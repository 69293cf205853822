/** Runs one story of `stories/`: `node story.js NAME`, started by the test of that name, which holds the world. */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openBrowser, visit } from './visit.js';
import { facts } from './world.js';

const name = process.argv[2];
const { default: story } = await import(`./stories/${name}.js`);
const browser = await openBrowser();
let failed = true;
try {
  const seen = await visit(browser);
  try {
    await story({ ...seen, browser });
    if (seen.faults.length > 0) throw new Error(`the page is not quiet:\n${seen.faults.join('\n')}`);
    failed = false;
  } catch (error) {
    await mkdir(facts.failures, { recursive: true });
    const picture = join(facts.failures, `${name}.png`);
    await seen.page.screenshot({ path: picture, fullPage: true });
    process.stderr.write(`${error.stack}\nat ${seen.page.url()}; picture: ${picture}\n${seen.faults.join('\n')}\n`);
  }
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);
