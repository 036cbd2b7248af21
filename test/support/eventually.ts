/** Waits for something that becomes true, with patience from the environment; only where no event can be awaited. */
import { setTimeout as delay } from 'node:timers/promises'

const patienceMs = Number(process.env['UNDERPASS_PATIENCE'] ?? 60) * 1000

/** Calls `check` until it returns true; rejects with the claim and the last error when patience ends. */
export async function eventually(
  claim: string,
  check: () => boolean | Promise<boolean>,
  { everyMs = 250 } = {}
): Promise<void> {
  const deadline = Date.now() + patienceMs
  let last: unknown
  while (Date.now() < deadline) {
    try {
      if (await check()) return
      last = undefined
    } catch (error) {
      last = error
    }
    await delay(everyMs)
  }
  throw new Error(`never became true: ${claim}`, last === undefined ? undefined : { cause: last })
}
