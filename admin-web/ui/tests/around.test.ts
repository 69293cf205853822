import assert from 'node:assert/strict';
import test from 'node:test';
import { withoutOverlap } from '../src/chart/around';

test('a few names are all written', () => {
  const names = ['one', 'two', 'three', 'four'];
  assert.deepEqual(withoutOverlap(names, 120, 80), names);
});

test('of names that would lie over each other the earlier is written', () => {
  const names = Array.from({ length: 24 }, (_, index) => `aws-region-${index}`);
  const written = withoutOverlap(names, 120, 80);
  assert.equal(written.length, names.length, 'every bar keeps its place');
  assert.equal(written[0], names[0]);
  assert.equal(written.at(-1), '', 'it would lie over the first');
  assert.ok(written.filter((name) => name !== '').length >= 12, written.join());
});

test('less room hides more', () => {
  const names = Array.from({ length: 60 }, (_, index) => `한국-${index}`);
  const count = (radius: number) => withoutOverlap(names, radius, 80).filter((name) => name !== '').length;
  assert.ok(count(70) < count(180));
});
