/** Where the signing certificate comes from: files of the operator, else the Secret that all replicas share. */
import { messageOf } from '../../shared/runtime/errors.ts'
import { sleep, type Clock } from '../../shared/runtime/clock.ts'
import type { Issuer } from '../../shared/identity/issue.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { endsSoon, issuerProblem, type CertificateAuthority } from './authority.ts'
import { caFromFiles, crlFromFiles } from './files.ts'
import { caFromSecret } from './secret.ts'
import type { Config } from '../config.ts'

export interface SourceOptions {
  readonly config: Pick<Config, 'caFolder' | 'mesh' | 'rootRefreshMs'>
  readonly client: Pick<KubeClient, 'find' | 'create' | 'replace'>
  readonly clock: Clock
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Wait before the API server is asked again for the Secret at the start. */
const retryMs = 2000

/** Waits for the API server; throws when what is there cannot be used. */
export async function loadIssuer(options: SourceOptions): Promise<Issuer> {
  for (;;) {
    const fromFiles = await usableFiles(options)
    if (fromFiles !== undefined) {
      options.log.info('signing with the certificate of the operator', { folder: options.config.caFolder })
      return fromFiles
    }
    try {
      return await fromSecret(options)
    } catch (error) {
      options.log.warn('the CA secret cannot be had, trying again', { error: messageOf(error) })
      if (!(await sleep(retryMs, options.signal))) throw error
    }
  }
}

export interface FollowOptions extends SourceOptions {
  readonly authority: CertificateAuthority
  /** Called with the revocation list beside the certificate, at once and whenever it changes. */
  readonly onCrl: (pem: string | undefined) => void
}

/** Looks for changes until the signal aborts. What cannot be used is reported and changes nothing. */
export function followIssuer(options: FollowOptions): void {
  void follow(options)
}

async function follow(options: FollowOptions): Promise<void> {
  let reported = ''
  let ending: string | undefined
  do {
    try {
      options.onCrl(await crlFromFiles(options.config.caFolder))
      await adoptCurrent(options)
      reported = ''
      const soon = endsSoon(options.authority.issuer, options.clock.now())
      if (soon !== ending && soon !== undefined) {
        options.log.warn('a signing certificate ends soon, and nothing outlives it; renew it', { ends: soon })
      }
      ending = soon
    } catch (error) {
      const text = messageOf(error)
      if (text !== reported) options.log.error('the new signing certificate is not used', { error: text })
      reported = text
    }
    // Mounted secrets change by a swap of links, which file watches miss on some systems; so they are read again.
  } while (await sleep(options.config.rootRefreshMs, options.signal))
}

async function adoptCurrent(options: FollowOptions): Promise<void> {
  const { authority, log } = options
  authority.settle()
  const issuer = (await usableFiles(options)) ?? (await fromSecret(options))
  const adoption = authority.adopt(issuer)
  if (adoption.kind === 'adopted') log.info('signing with a new certificate')
  if (adoption.kind === 'announced') {
    const from = new Date(adoption.at).toISOString()
    log.warn('a new root is announced; it signs once everybody knows it', { from })
  }
}

/** The operator's certificate; throws when nobody would accept what it signs. */
async function usableFiles({ config, clock }: SourceOptions): Promise<Issuer | undefined> {
  const issuer = await caFromFiles(config.caFolder)
  const problem = issuer === undefined ? undefined : issuerProblem(issuer, clock.now())
  if (problem !== undefined) throw new Error(`the signing certificate in ${config.caFolder}: ${problem}`)
  return issuer
}

async function fromSecret({ client, config, clock, signal }: SourceOptions): Promise<Issuer> {
  const { systemNamespace: namespace, trustDomain } = config.mesh
  return caFromSecret({ client, namespace, trustDomain, now: clock.now(), signal })
}
