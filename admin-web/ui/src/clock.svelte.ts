/** The present, for texts such as "5 minutes ago": one timer for all of them. */

const TICK = 10_000;

class Clock {
  now = $state(Date.now());

  constructor() {
    setInterval(() => (this.now = Date.now()), TICK);
  }
}

export const clock = new Clock();
