// What is sent, and what of it must reach the model. Every message bears a mark of its own, so that it is found again.

const WORDS = 'the quick brown fox checks the build logs and tells us what broke since last night while others wait for news of it';

/** Prose of so many characters that begins with the mark. */
function prose(mark, length) {
  let text = `${mark} `;
  while (text.length < length) text += `${WORDS} ${text.length} `;
  return `${text.slice(0, length - 1)}.`;
}

const lines = (mark, count, length) => Array.from({ length: count }, (_, at) => (at ? `line ${at}: ${prose(`l${at}`, length)}` : mark)).join('\n');

/** Shape by name: from mark to text. */
export const SHAPES = {
  s40: (mark) => prose(mark, 40),
  s300: (mark) => prose(mark, 300),
  s3k: (mark) => prose(mark, 3072),
  l40: (mark) => lines(mark, 40, 66),
  s20k: (mark) => lines(mark, 200, 90),
  wide: (mark) => `${mark} 你好，世界。漢字かな交じり文 🦀🚀 👩‍👩‍👧 naïve café Ω≈ç√ и кириллица 한국어 konec 🎉`,
  slash: (mark) => `/help me with ${mark} please`,
  bang: (mark) => `!echo ${mark} is not to be run`,
  at: (mark) => `@bob look at ${mark} and tell us`,
  atend: (mark) => `look at ${mark} and at @READ`,
  hash: (mark) => `#general ${mark} is for all`,
  quest: (mark) => `? what is ${mark}`,
  bslash: (mark) => `${mark} ends with a backslash \\`,
  tabs: (mark) => `${mark}\tone\ttwo\n\tthree\tfour`,
  ctrl: (mark) => `${mark} a\x15b\x1b[Dc\x7fd\x0ce\x03f\x04g\x08h end`,
  hostile: (mark) => `${mark} before\x1b[201~\rEVIL ${mark}\r\x1b[200~after\x9b201~\rmore`,
};

/** As the broker cleans it: no controls but newline and tab, no escape sequences, unified line ends. */
export function cleaned(text) {
  return text.replace(/\r\n?/g, '\n')
    // eslint-disable-next-line no-control-regex
    .replace(/\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]/g, '')
    .replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, '')
    .replace(/\n+$/, '');
}

/** How a text compares: Claude Code turns tabs into blanks and composes letters, and blanks at the end are the disarming. */
export function comparable(text) {
  return text.normalize('NFC').replaceAll('\t', '    ').trimEnd();
}
