/** The language of the page: its words, and how it writes numbers and times. */

import { recall, remember } from './memory';
import { en, type Words } from './words/en';
import { ko } from './words/ko';

export const LANGUAGES = { en: 'English', ko: '한국어' } as const;
export type Language = keyof typeof LANGUAGES;

const DICTIONARIES: Record<Language, Words> = { en, ko };
const known = Object.keys(LANGUAGES) as Language[];

function preferred(): Language {
  return window.navigator.language.startsWith('ko') ? 'ko' : 'en';
}

class I18n {
  language = $state<Language>(recall('language', known, preferred()));

  get words(): Words {
    return DICTIONARIES[this.language];
  }

  choose(language: Language): void {
    this.language = language;
    remember('language', language);
  }
}

export const i18n = new I18n();

export function words(): Words {
  return i18n.words;
}

/**
 * What the service says in an English sentence beside a word of a closed list: the sentence for who reads English, for others
 * what the word is in their language. A word without a translation leaves the sentence.
 */
export function told(translated: string | undefined, sentence: string): string {
  return (i18n.language === 'en' ? sentence || translated : translated || sentence) ?? '';
}
