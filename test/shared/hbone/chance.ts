/** Chance that can be repeated: the seed comes from UNDERPASS_SEED or the clock. */

export function seedOf(): number {
  const given = process.env['UNDERPASS_SEED']
  return given === undefined ? Date.now() % 2 ** 31 : Number(given)
}

/** How long a fuzz test may search; UNDERPASS_FUZZ_SECONDS for longer hunts. */
export function secondsOf(usual: number): number {
  return Number(process.env['UNDERPASS_FUZZ_SECONDS'] ?? usual)
}

/** Numbers from 0 to below 1 (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
