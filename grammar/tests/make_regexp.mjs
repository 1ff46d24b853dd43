// Makes regexp.json: which texts JavaScript's own regular expressions match as a whole. `node grammar/tests/make_regexp.mjs`

import { writeFileSync } from "node:fs";

const texts = [
  "", "a", "b", "ab", "aab", "abc", "ABC", "AbC", "a b", "a\nb", "\n", "0", "12", "2024-05-06", "١", "_", "é", "É", "ß", "ẞ", "ſ", "S", "s",
  "K", "K", "k", "İ", "ı", "i", "I", "\u00a0", "\ufeff", "\u2028", "\t", " ", "-", "]", "[", "\\", "/", "{", "}", "{1}", "a{", "^", "$", "😀", "😀😀",
  "x😀y", "中文", "Ω", "ω", "ϖ", "ς", "σ", "Σ", "\b", "\u0000", "cA", "\u0001", "yes", "no", "maybe", "#ff00ff", "a.b", "a@b.c", "one\ntwo", "&&", "a-z", "&", "~",
];
const patterns = [
  ["a*b?", ""], ["[ab]+c?", "i"], ["\\d{4}-\\d{2}-\\d{2}", ""], ["\\d", ""], ["\\d", "u"], ["\\D", "u"], ["\\w", "i"], ["\\w", "iu"], ["\\W", ""], ["\\W", "iu"], ["\\s", ""],
  ["\\S+", ""], [".", ""], [".", "s"], [".", "u"], [".", "su"], [".*", ""], [".+", ""], [".{2}", ""], ["[^a]", ""], ["[^a]", "u"], ["[^a]*", ""], ["a.b", "s"], ["s", "i"], ["s", "iu"], ["k", "i"],
  ["k", "iu"], ["\u212a", "i"], ["é", "i"], ["[à-þ]", "i"], ["ß", "i"], ["ß", "iu"], ["ω", "i"], ["σ", "i"], ["σ", "iu"], ["ı", "i"], ["İ", "i"], ["İ", "iu"], ["[^k]", "i"], ["[^k]", "iu"], ["😀", ""], ["😀+", "u"],
  ["[😀]", "u"], ["\\u{1F600}", "u"], ["\\uD83D\\uDE00", ""], ["\\uD83D\\uDE00", "u"], ["x.+y", ""], ["x.y", "u"], ["\\p{L}", "u"], ["\\P{L}+", "u"], ["\\p{Script=Greek}", "u"], ["\\p{Lu}", "iu"], ["\\p{Lu}", "u"],
  ["[\\p{L}\\d]+", "u"], ["(a|b)+", ""], ["(?<year>\\d+)", ""], ["(?:yes|no)", ""], ["yes|no|", ""], ["^a$", ""], ["^(a|b)$", "m"], ["(^a|b$)", ""], ["^one$\\n^two$", "m"],
  ["[]", ""], ["[]|a", ""], ["[^]", ""], ["[^]*", ""], ["a{", ""], ["a{,2}", ""], ["{1}".slice(0, 1), ""], ["}", ""], ["]", ""], ["\\{", "u"], ["[\\]]", ""], ["[a-]+", ""], ["[-a]", ""], ["[\\w-z]+", ""], ["[&&]+", ""], ["[a&&b]", ""],
  ["[~~]", ""], ["\\/", ""], ["/", ""], ["\\-", ""], ["[\\-]", "u"], ["\\cA", ""], ["[\\b]", ""], ["\\0", ""], ["\\x41|\\x61", ""], ["\\u0041", "i"], ["a+?b", ""], ["(?:a{2}){0,1}b", ""], ["#[0-9a-f]{6}", ""], ["[^\\s@]+@[^\\s@]+\\.[a-z]+", ""],
  ["(?:)", ""], ["a??", ""], ["[\\d\\s]*", ""], ["[^\\W_]+", ""], ["[a-z]", "v"], ["\\t|\\n|\\v|\\f|\\r", ""], ["\\.", ""], ["a\\.b", "u"], ["[A-z]", "i"], ["\\a", ""],
];
const table = patterns.map(([source, flags]) => {
  const whole = new RegExp(`^(?:${source})$`, flags.replace("m", ""));
  const lines = new RegExp(source, flags);
  // With the flag m the anchors that are added would be those of lines.
  const matches = (text) => (flags.includes("m") ? lines.exec(text)?.[0] === text : whole.test(text));
  return { source, flags, matches: texts.flatMap((text, i) => (matches(text) ? [i] : [])) };
});
writeFileSync(new URL("regexp.json", import.meta.url), `${JSON.stringify({ texts, table }, null, 0).replaceAll('},{', '},\n{')}\n`);
