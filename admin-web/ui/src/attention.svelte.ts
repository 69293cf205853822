/** Whether somebody looks at the page: one that nobody looks at must not keep its session alive for ever. */

/** Without a hand on mouse or keyboard for this long nobody is there. */
const IDLE = 10 * 60_000;

class Attention {
  /** Whether the page rests because nobody was there. */
  idle = $state(false);
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    for (const kind of ['pointerdown', 'pointermove', 'keydown', 'wheel', 'focus'] as const) {
      window.addEventListener(kind, () => this.#seen(), { passive: true, capture: true });
    }
    this.#seen();
  }

  get isPaid(): boolean {
    return !this.idle && document.visibilityState === 'visible';
  }

  #seen(): void {
    this.idle = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.idle = true), IDLE);
  }
}

export const attention = new Attention();
