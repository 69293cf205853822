/** Names around a circle, of which only those are written that can be read. Pure. */

/** Between the circle and a name, as ECharts has it. */
const MARGIN = 8;
/** Of a line of letters, in pixels at the size of an axis. */
const LINE = 14;
/** Where a name is centred over its place instead of beginning or ending there: as ECharts decides it, a part of the radius. */
const CENTRED = 0.3;

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/**
 * The names clockwise from the top, empty where one would be written over another; earlier ones go first. A name has `room`
 * pixels at most. All are in pixels.
 */
export function withoutOverlap(names: readonly string[], radius: number, room: number): string[] {
  const kept: Box[] = [];
  return names.map((name, index) => {
    const box = boxOf(name, ((index + 0.5) / names.length) * 2 * Math.PI, radius, room);
    if (kept.some((other) => overlap(box, other))) return '';
    kept.push(box);
    return name;
  });
}

function boxOf(name: string, angle: number, radius: number, room: number): Box {
  const [x, y] = [Math.sin(angle) * (radius + MARGIN), -Math.cos(angle) * (radius + MARGIN)];
  const width = Math.min(room, lengthOf(name));
  const left = Math.abs(x) / radius < CENTRED ? x - width / 2 : x > 0 ? x : x - width;
  const top = Math.abs(y) / radius < CENTRED ? y - LINE / 2 : y > 0 ? y : y - LINE;
  return { left, right: left + width, top, bottom: top + LINE };
}

/** About as wide as the letters are: Korean and Chinese ones are square. */
function lengthOf(name: string): number {
  return [...name].reduce((length, letter) => length + (letter > '\u10ff' ? 13 : 8), 0);
}

const overlap = (one: Box, other: Box) =>
  one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
