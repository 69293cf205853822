/** Where in the page one is: the part behind `#`, such as `#/networks/prod/peers`. No server has to know it. */

class Route {
  #hash = $state(window.location.hash);

  constructor() {
    window.addEventListener('hashchange', () => (this.#hash = window.location.hash));
  }

  /** The segments of the path, decoded. */
  get segments(): string[] {
    const path = this.#hash.replace(/^#\/?/, '');
    return path === '' ? [] : path.split('/').map(decoded);
  }
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment; // somebody typed a lone per cent sign
  }
}

export const route = new Route();

/** The link to a place. */
export function to(...segments: string[]): string {
  return `#/${segments.map(encodeURIComponent).join('/')}`;
}

export function go(...segments: string[]): void {
  window.location.hash = to(...segments);
}
