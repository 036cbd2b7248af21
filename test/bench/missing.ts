import { spawnSync } from 'node:child_process'

/** Why a benchmark cannot run here; false when it can. */
export function missing(): string | false {
  if (process.getuid?.() !== 0) return 'needs root'
  const absent = ['nginx', 'wrk', 'h2load', 'iperf3', 'nft', 'openssl'].filter(
    program => spawnSync('which', [program]).status !== 0
  )
  return absent.length === 0 ? false : `needs ${absent.join(', ')}`
}
