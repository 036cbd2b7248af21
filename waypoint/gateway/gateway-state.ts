/** What a gateway listens for: the listeners of its Gateway by port, and the certificates that they show. */
import { constants, createPrivateKey, X509Certificate } from 'node:crypto'
import type tls from 'node:tls'
import { oldestTlsRoute } from '../routes/tls-route.ts'
import type { ClientValidation } from './client-certificate.ts'
import type { Listener, ServerCertificate } from './gateway.ts'
import { HostTable } from './host-table.ts'
import { ListenerTables } from './listener-tables.ts'

/** Everything that listens on one port. */
export interface PortPlan {
  /** `tls`: of some names TLS ends here, of others it is passed on. */
  readonly kind: 'http' | 'tls' | 'tcp'
  readonly listeners: HostTable<Listener>
}

export class GatewayState {
  readonly tlsRoutes = new ListenerTables(oldestTlsRoute)
  #onChange: () => void = () => undefined
  #listeners: readonly Listener[] = []
  #ports: ReadonlyMap<number, PortPlan> = new Map()
  readonly #certificates = new Map<string, ServerCertificate>()
  #backendCertificate: string | undefined
  readonly #contexts = new Map<string, tls.TlsOptions>()

  /** `onChange`: ports or certificates may be other ones now. */
  watch(onChange: () => void): void {
    this.#onChange = onChange
  }

  get listeners(): readonly Listener[] {
    return this.#listeners
  }

  get ports(): ReadonlyMap<number, PortPlan> {
    return this.#ports
  }

  setListeners(listeners: readonly Listener[]): void {
    this.#listeners = listeners
    const ports = new Map<number, PortPlan>()
    for (const listener of listeners) {
      const { port, hostname } = listener
      const kind = kindOf(listener)
      let plan = ports.get(port)
      if (plan === undefined) ports.set(port, (plan = { kind, listeners: new HostTable() }))
      // Listeners that exclude each other: the control plane has told them apart already, the first one stays.
      if (plan.kind === kind && plan.listeners.get(hostname) === undefined)
        plan.listeners.set(hostname, listener)
    }
    this.#ports = ports
    this.#changed()
  }

  /** `namespace/name` of its Secret; undefined: backends are shown none. */
  setBackendCertificate(name: string | undefined): void {
    this.#backendCertificate = name
  }

  /** Undefined also where its Secret is not known. */
  get backendCertificate(): ServerCertificate | undefined {
    return this.#backendCertificate === undefined
      ? undefined
      : this.#certificates.get(this.#backendCertificate)
  }

  hasCertificate(name: string): boolean {
    return this.#certificates.has(name)
  }

  putCertificate(name: string, certificate: ServerCertificate): void {
    this.#certificates.set(name, certificate)
    this.#changed()
  }

  removeCertificate(name: string): void {
    if (this.#certificates.delete(name)) this.#changed()
  }

  /** What a listener shows to clients, and asks of them; the same object for as long as it is the same. Undefined: nothing yet. */
  credentials({ id: { listener: name }, certificates, validation }: Listener): tls.TlsOptions | undefined {
    const known = this.#contexts.get(name)
    if (known !== undefined) return known
    const found = certificates
      .map(secret => this.#certificates.get(secret))
      .filter(certificate => certificate !== undefined)
      // A client is shown the one that it can verify; two of a kind would be no choice.
      .filter(({ key }, at, all) => all.findIndex(other => keyType(other.key) === keyType(key)) === at)
    if (found.length === 0) return undefined
    const options: tls.TlsOptions = {
      cert: found.map(({ cert }) => cert),
      key: found.map(({ key }) => key),
      minVersion: 'TLSv1.2',
      secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
      ...(validation === undefined ? {} : asking(validation))
    }
    this.#contexts.set(name, options)
    return options
  }

  /** For operators: what is listened for, and which certificates are there; of keys nothing. */
  dump(): unknown {
    return {
      listeners: this.#listeners,
      certificates: Array.from(this.#certificates, ([secret, { cert }]) => {
        const { subjectAltName, validTo } = new X509Certificate(cert)
        return { secret, names: subjectAltName, validTo }
      }),
      tlsRoutes: [...this.tlsRoutes.all()]
    }
  }

  #changed(): void {
    this.#contexts.clear()
    this.#onChange()
  }
}

function asking({ mode, caCertificates }: ClientValidation): tls.TlsOptions {
  return {
    ca: caCertificates,
    requestCert: true,
    rejectUnauthorized: mode === 'AllowValidOnly',
    // A session that is taken up again would not be verified again.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_TICKET
  }
}

function keyType(key: string): string | undefined {
  return createPrivateKey(key).asymmetricKeyType
}

function kindOf({ protocol }: Listener): PortPlan['kind'] {
  if (protocol === 'HTTP') return 'http'
  return protocol === 'TCP' ? 'tcp' : 'tls'
}
