// What the guardians counted against what the wallet shows: facefare.audit.own_log, in the browser.
//
// Each identification has a tag of 64 bits; the guardians keep the xor of a row's tags. `shown`: { accesses: [{ at (ms),
// tag (hex) }], lost: [hex] }; `opened`: { value (BigInt), era, since }; `before`: what `remembered` gave last time.

const OVERLAP = 60_000; // ms: a search that was signed before an era began may have been answered in it
export const COMPARE_WITHIN = 48; // identifications: among 64 and more, a set can be left out unseen

const number = (tag) => BigInt(`0x${tag}`);
const xor = (tags) => tags.reduce((value, tag) => value ^ number(tag), 0n);

const since = (before, { era }) => (before?.era === era ? before : { era, value: 0n, tags: [] });

// { complete, compared, lost: [tags of answers that never came whole and were this payer's], gone }
export function compare(opened, shown, before) {
  const last = since(before, opened);
  const compared = new Set(last.tags);
  const all = new Set([...shown.accesses.map(({ tag }) => tag), ...shown.lost]);
  const gone = last.tags.filter((tag) => !all.has(tag)).length;
  const fresh = shown.accesses.filter(({ tag }) => !compared.has(tag)).sort((one, other) => one.at - other.at);
  const surely = fresh.filter(({ at }) => at >= opened.since).map(({ tag }) => tag);
  const maybe = fresh.filter(({ at }) => at >= opened.since - OVERLAP && at < opened.since).map(({ tag }) => tag);
  const rest = opened.value ^ last.value ^ xor(surely);
  const unused = shown.lost.filter((tag) => !compared.has(tag));
  for (let count = 0; count <= maybe.length; count++) {
    const counted = maybe.slice(maybe.length - count);
    const lost = explained(rest ^ xor(counted), unused);
    if (lost) return { complete: gone === 0, compared: surely.length + count, lost, gone };
  }
  return { complete: false, compared: surely.length, lost: [], gone };
}

// What the next comparison starts from, after one that was complete.
export function remembered(opened, shown, { lost }, before) {
  const counted = shown.accesses.filter(({ at }) => at >= opened.since - OVERLAP).map(({ tag }) => tag);
  const tags = [...new Set([...since(before, opened).tags, ...counted, ...lost])];
  return { era: opened.era, value: opened.value, tags };
}

// At most two of the lost tags whose xor is what is missing; null if there are no such.
function explained(missing, lost) {
  if (missing === 0n) return [];
  const known = new Map(lost.map((tag) => [number(tag), tag]));
  if (known.has(missing)) return [known.get(missing)];
  const one = lost.find((tag) => known.has(missing ^ number(tag)));
  return one === undefined ? null : [one, known.get(missing ^ number(one))];
}
