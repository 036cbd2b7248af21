/**
 * What is kept by hostname, and which of it is for a host: the same name before a wildcard, a longer wildcard before a
 * shorter one, then what is for any host. A wildcard stands for one label or more. Source: Gateway API v1, Hostname.
 */

export class HostTable<T> {
  readonly #exact = new Map<string, T>()
  /** By what follows the star, beginning with its dot. */
  readonly #wildcards = new Map<string, T>()
  #any: T | undefined

  /** `hostname`: `a.b`, `*.b`, or '' for any host; in lower case. */
  set(hostname: string, value: T): void {
    if (hostname === '') this.#any = value
    else if (hostname.startsWith('*.')) this.#wildcards.set(hostname.slice(1), value)
    else this.#exact.set(hostname, value)
  }

  /** What is kept for this very hostname. */
  get(hostname: string): T | undefined {
    if (hostname === '') return this.#any
    return hostname.startsWith('*.') ? this.#wildcards.get(hostname.slice(1)) : this.#exact.get(hostname)
  }

  /** `host`: in lower case, without a port. */
  find(host: string): T | undefined {
    const exact = this.#exact.get(host)
    if (exact !== undefined) return exact
    if (this.#wildcards.size > 0) {
      for (let dot = host.indexOf('.', 1); dot > 0; dot = host.indexOf('.', dot + 1)) {
        const found = this.#wildcards.get(host.slice(dot))
        if (found !== undefined) return found
      }
    }
    return this.#any
  }
}
