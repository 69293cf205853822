/**
 * Nothing here makes HTML of text. The content security policy holds the page to it: a text that becomes HTML needs a
 * policy, and the only ones are Svelte's own for its templates and this one for a library that empties an element.
 */

interface Factory {
  createPolicy(name: 'default', rules: { createHTML(text: string): string | null }): unknown;
}

/** Not every browser has trusted types, nor every version of TypeScript's library. */
const { trustedTypes } = window as unknown as { trustedTypes?: Factory };

trustedTypes?.createPolicy('default', { createHTML: (text) => (text === '' ? text : null) });
