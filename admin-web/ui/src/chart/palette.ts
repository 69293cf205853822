/** The page's colours, for what is drawn on a canvas. */

export interface Palette {
  ink: string;
  quiet: string;
  line: string;
  surface: string;
  bad: string;
  /** From quick to slow; nothing in it looks like `bad`. */
  ramp: string[];
  font: string;
}

const LIGHT = ['#e3f3ee', '#a9dccd', '#5cb8a0', '#1f8a72', '#d9ab4b', '#a3660c'];
const DARK = ['#17342c', '#1f5848', '#2b8069', '#57c9ac', '#e0bd72', '#a8721c'];

export function palette(isDark: boolean): Palette {
  const style = window.getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(name).trim();
  return {
    ink: of('--ink'),
    quiet: of('--quiet'),
    line: of('--line'),
    surface: of('--surface'),
    bad: of('--bad'),
    ramp: isDark ? DARK : LIGHT,
    font: of('--sans'),
  };
}
