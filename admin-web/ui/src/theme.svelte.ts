/** Light or dark: as the system says, or as chosen here and remembered. */

import { recall, remember } from './memory';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const system = window.matchMedia('(prefers-color-scheme: dark)');

class Appearance {
  choice = $state<Theme>(recall('theme', THEMES, 'system'));
  #systemIsDark = $state(system.matches);

  constructor() {
    system.addEventListener('change', () => (this.#systemIsDark = system.matches));
  }

  get isDark(): boolean {
    return this.choice === 'system' ? this.#systemIsDark : this.choice === 'dark';
  }

  next(): void {
    this.choice = THEMES[(THEMES.indexOf(this.choice) + 1) % THEMES.length] ?? 'system';
    remember('theme', this.choice);
  }
}

export const theme = new Appearance();
