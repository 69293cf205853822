/** Measured pairs, ordered for pictures. Pure. */

import { byName, isolated } from '../text';
import type { PairResult } from '../types';

export interface Axis {
  ids: string[];
  names: string[];
}

/** The peers of both axes by name; at most `most`, those with the slowest or most lossy pairs. */
export function axis(results: readonly PairResult[], most: number): Axis {
  const worst = new Map<string, number>();
  const names = new Map<string, string>();
  for (const pair of results) {
    names.set(pair.source, isolated(pair.sourceName || pair.source));
    names.set(pair.destination, isolated(pair.destinationName || pair.destination));
    const badness = pair.received === 0 ? Number.MAX_SAFE_INTEGER : pair.p50Us * (1 + pair.lossPercent);
    worst.set(pair.source, Math.max(worst.get(pair.source) ?? 0, badness));
  }
  const byBadness = [...names.keys()].sort((one, other) => (worst.get(other) ?? 0) - (worst.get(one) ?? 0));
  const nameOf = (id: string) => names.get(id) ?? id;
  const ids = byBadness.slice(0, most).sort((one, other) => byName(nameOf(one), nameOf(other)));
  return { ids, names: ids.map(nameOf) };
}

/** The middle one of some numbers; 0 of none. */
export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((one, other) => one - other);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

/** Where a scale of milliseconds ends: a few slow pairs must not make all others look alike. */
export function scale(results: readonly PairResult[]): number {
  const rtts = results.filter((pair) => pair.received > 0).map((pair) => pair.p50Us / 1000);
  const sorted = rtts.sort((one, other) => one - other);
  return Math.max(0.1, sorted[Math.floor(sorted.length * 0.98)] ?? 0);
}

/** Median round trip of each source over its destinations that answered, slowest first. */
export function medians(results: readonly PairResult[]): { name: string; us: number }[] {
  const bySource = new Map<string, { name: string; rtts: number[] }>();
  for (const pair of results) {
    const source = bySource.get(pair.source) ?? { name: isolated(pair.sourceName || pair.source), rtts: [] };
    if (pair.received > 0) source.rtts.push(pair.p50Us);
    bySource.set(pair.source, source);
  }
  return [...bySource.values()]
    .map(({ name, rtts }) => ({ name, us: median(rtts) }))
    .sort((one, other) => other.us - one.us);
}
