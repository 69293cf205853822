/** Light or dark: as the system says, or as chosen here and remembered. */

import { recall, remember } from './memory';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const system = window.matchMedia('(prefers-color-scheme: dark)');

class Appearance {
  choice = $state<Theme>(recall('theme', THEMES, 'system'));
  #systemIsDark = $state(system.matches);

  constructor() {
    this.#dress();
    system.addEventListener('change', () => {
      this.#systemIsDark = system.matches;
      this.#dress();
    });
  }

  get isDark(): boolean {
    return this.choice === 'system' ? this.#systemIsDark : this.choice === 'dark';
  }

  next(): void {
    this.choice = THEMES[(THEMES.indexOf(this.choice) + 1) % THEMES.length] ?? 'system';
    remember('theme', this.choice);
    this.#dress();
  }

  /** At once, not in an effect: pictures that are drawn anew read the page's colours. */
  #dress(): void {
    document.documentElement.dataset['theme'] = this.isDark ? 'dark' : 'light';
  }
}

export const theme = new Appearance();
