import assert from 'node:assert/strict';
import { test } from 'node:test';
import { axis, median, medians, scale } from '../src/chart/pairs';
import type { PairResult } from '../src/types';

function pair(source: string, destination: string, p50Us: number, received = 3): PairResult {
  const measured = { minUs: p50Us, avgUs: p50Us, maxUs: p50Us, stddevUs: 0, p50Us, p90Us: p50Us, p99Us: p50Us };
  const names = { source, destination, sourceName: source, destinationName: destination };
  return { ...names, ...measured, sent: 3, received, lossPercent: ((3 - received) / 3) * 100, error: '' };
}

test('the median is the middle, or between the two middle ones', () => {
  assert.equal(median([]), 0);
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
});

test('lost pairs do not count as quick ones', () => {
  assert.deepEqual(medians([pair('a', 'b', 0, 0), pair('a', 'c', 5000), pair('b', 'a', 9000)]), [
    { name: 'b', us: 9000 },
    { name: 'a', us: 5000 },
  ]);
});

test('an axis that is too long keeps the peers with the worst pairs, by name', () => {
  const results = [pair('a', 'b', 1), pair('b', 'a', 900), pair('c', 'a', 0, 0), pair('d', 'a', 2)];
  assert.deepEqual(axis(results, 2).ids, ['b', 'c']);
  assert.deepEqual(axis(results, 9).ids, ['a', 'b', 'c', 'd']);
});

test('one slow pair does not stretch the scale', () => {
  const results = Array.from({ length: 100 }, (_, index) => pair(`s${index}`, 'd', index === 0 ? 900_000 : 10_000));
  assert.equal(scale(results), 10);
});
