/** The set of probed ports of all enrolled pods, kept in the node's rules. Changes that come together are written once. */
import type { Ip } from '../shared/net/address.ts'
import type { ProbeRules, ProbeTarget } from './rules/host-probes.ts'

export class HostProbes {
  readonly #rules: ProbeRules
  readonly #targets = new Map<string, readonly ProbeTarget[]>()
  #writing: Promise<void> = Promise.resolve()
  #pending: Promise<void> | undefined
  /** Whether the last write failed, so that the same again is not enough. */
  #stale = false

  constructor(rules: ProbeRules) {
    this.#rules = rules
  }

  targets(): readonly ProbeTarget[] {
    return [...this.#targets.values()].flat()
  }

  /** Makes a pod known without writing; at the start, so that the first write does not take anything away. */
  adopt(uid: string, addresses: readonly Ip[], ports: readonly number[]): void {
    const targets = targetsOf(uid, addresses, ports)
    if (targets.length > 0) this.#targets.set(uid, targets)
  }

  /** Resolves when the rules hold the pod. */
  async put(uid: string, addresses: readonly Ip[], ports: readonly number[]): Promise<void> {
    const targets = targetsOf(uid, addresses, ports)
    const before = this.#targets.get(uid) ?? []
    if (!this.#stale && JSON.stringify(before) === JSON.stringify(targets)) return this.#pending
    // Put last, so that it wins over a pod that had the address before.
    this.#targets.delete(uid)
    if (targets.length > 0) this.#targets.set(uid, targets)
    await this.#write()
  }

  async remove(uid: string): Promise<void> {
    if (this.#targets.delete(uid) || this.#stale) await this.#write()
  }

  /** Writes what is missing or was changed by others; true when there was something to repair. */
  async repair(): Promise<boolean> {
    await this.#pending
    if (await this.#rules.verify(this.targets())) return false
    await this.#write()
    return true
  }

  /** At most one write runs and one waits; the one that waits takes everything that changed until it starts. */
  async #write(): Promise<void> {
    this.#pending ??= this.#writing.then(async () => {
      this.#pending = undefined
      this.#stale = true
      await this.#rules.write(this.targets())
      this.#stale = false
    })
    const mine = this.#pending
    this.#writing = mine.catch(() => undefined) // whoever waits for this write sees its failure
    await mine
  }
}

function targetsOf(uid: string, addresses: readonly Ip[], ports: readonly number[]): readonly ProbeTarget[] {
  return addresses.flatMap(ip => ports.map(port => ({ ip, port, uid })))
}
