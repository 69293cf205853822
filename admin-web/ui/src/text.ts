/** Texts that others wrote: shown as they are, but never so that they disguise themselves. */

/** Characters that move, hide or join what stands around them; `is_mark` of `model` has the same list. */
const MARKS = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e007f}]/u;

/** Letters that are written from right to left. */
const LEFTWARD = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

export interface Piece {
  text: string;
  /** A character that would not be seen, written as its code point. */
  isMark: boolean;
}

/** The text with every hidden character spelt out. */
export function pieces(text: string): Piece[] {
  const found: Piece[] = [];
  for (const character of text) {
    const last = found.at(-1);
    if (MARKS.test(character)) found.push({ text: codePoint(character), isMark: true });
    else if (last && !last.isMark) last.text += character;
    else found.push({ text: character, isMark: false });
  }
  return found;
}

/** As [`pieces`], in one string. */
export function plain(text: string): string {
  return pieces(text)
    .map((piece) => (piece.isMark ? `[${piece.text}]` : piece.text))
    .join('');
}

/**
 * As [`plain`], for titles, options and charts, which have no elements to isolate it with: what is written from right to left
 * moves nothing that stands beside it.
 */
export function isolated(text: string): string {
  return LEFTWARD.test(text) ? `\u2068${plain(text)}\u2069` : plain(text);
}

function codePoint(character: string): string {
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
}

/** `a=b, c=d` as labels; `null` if a part has no name or no `=`. */
export function labelsOf(text: string): Record<string, string> | null {
  const labels: Record<string, string> = {};
  for (const part of listOf(text)) {
    const equals = part.indexOf('=');
    if (equals < 1) return null;
    labels[part.slice(0, equals).trim()] = part.slice(equals + 1).trim();
  }
  return labels;
}

export function textOfLabels(labels: Record<string, string>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(', ');
}

/** The parts of a list that is separated by commas, spaces or lines. */
export function listOf(text: string): string[] {
  return text.split(/[\s,;]+/u).filter((part) => part !== '');
}

/** Whether every word of the needle stands somewhere in the text. */
export function matches(haystack: string, needle: string): boolean {
  const text = haystack.toLowerCase();
  return needle
    .toLowerCase()
    .split(/\s+/u)
    .every((word) => text.includes(word));
}

/** Names with numbers in the order people expect: `vm-2` before `vm-10`. */
export const byName = new Intl.Collator('en', { numeric: true, sensitivity: 'base' }).compare;
