/**
 * Keeps the registration of the validating webhook right: the roots by which the API server verifies it,
 * and, once an object was seen to be refused by it, that nothing passes unseen. Written by the leader only.
 */
import {
  validatingWebhookConfigurations,
  type ValidatingWebhookConfiguration
} from '../../shared/kube/admission-api.ts'
import type { KubeClient } from '../../shared/kube/client.ts'
import { isConflict, isNotFound, KubeError } from '../../shared/kube/errors.ts'
import { informer, type Informer } from '../../shared/kube/informer.ts'
import { namedType } from '../../shared/kube/object.ts'
import { sleep } from '../../shared/runtime/clock.ts'
import { messageOf } from '../../shared/runtime/errors.ts'
import type { Logger } from '../../shared/telemetry/logger.ts'
import { WorkQueue } from './work-queue.ts'

export interface WebhookConfigurationOptions {
  readonly client: KubeClient
  readonly namespace: string
  readonly revision: string
  /** Roots that verify the webhook, PEM; undefined while it does not serve. */
  readonly bundle: () => string | undefined
  readonly log: Logger
  readonly signal: AbortSignal
  /** Between two attempts to see an object refused; milliseconds. */
  readonly probeMs?: number
}

const probeMs = 2000
/** What no user may write, so every validation refuses it; it is tried only, never made. */
const refusedAlways = { 'internal.istio.io/webhook-always-reject': 'true' }
const gateways = namedType('networking.istio.io', 'v1', 'Gateway')

/** `istio-validator-NAMESPACE`, or `istio-validator-REVISION-NAMESPACE`. */
export function webhookConfigurationName(revision: string, namespace: string): string {
  return revision === 'default' ? `istio-validator-${namespace}` : `istio-validator-${revision}-${namespace}`
}

export class WebhookConfiguration {
  readonly #options: WebhookConfigurationOptions
  readonly #name: string
  readonly #queue: WorkQueue
  #existing: Informer<ValidatingWebhookConfiguration> | undefined
  #leading: AbortController | undefined
  /** An object was seen to be refused. */
  #works = false
  #reported = ''

  constructor(options: WebhookConfigurationOptions) {
    this.#options = options
    this.#name = webhookConfigurationName(options.revision, options.namespace)
    this.#queue = new WorkQueue({
      signal: options.signal,
      concurrency: 1,
      work: async () => this.#reconcile(),
      onFailure: (_, error) => {
        const fields = { name: this.#name, error: messageOf(error) }
        options.log.warn('writing the registration of the webhook failed, trying again', fields)
      }
    })
  }

  /** The roots are others now, or the webhook serves. */
  changed(): void {
    if (this.#leading !== undefined) this.#queue.add(this.#name)
  }

  /** Starts or stops writing. */
  lead(leading: boolean): void {
    this.#leading?.abort()
    this.#leading = undefined
    if (!leading) return
    const ending = new AbortController()
    this.#leading = ending
    const { client, log, signal } = this.#options
    const until = AbortSignal.any([signal, ending.signal])
    this.#existing = informer(client, validatingWebhookConfigurations, {
      fieldSelector: `metadata.name=${this.#name}`,
      signal: until,
      log,
      onChange: () => this.changed(),
      onSynced: () => this.changed()
    })
    void this.#probe(until)
  }

  async #reconcile(): Promise<void> {
    const found = this.#existing?.get(this.#name)
    const bundle = this.#options.bundle()
    if (this.#leading === undefined || found === undefined || bundle === undefined) return
    const caBundle = Buffer.from(bundle).toString('base64')
    const webhooks = (found.webhooks ?? []).map(webhook => ({
      ...webhook,
      clientConfig: { ...webhook.clientConfig, caBundle },
      ...(this.#works ? { failurePolicy: 'Fail' as const } : {})
    }))
    if (JSON.stringify(webhooks) === JSON.stringify(found.webhooks ?? [])) return
    const { client, signal } = this.#options
    // With the version: what somebody else wrote meanwhile is read again first.
    const body = { metadata: { resourceVersion: found.metadata.resourceVersion }, webhooks }
    try {
      const ref = { name: this.#name }
      await client.patch(validatingWebhookConfigurations, ref, body, { kind: 'merge', signal })
    } catch (error) {
      if (isConflict(error) || isNotFound(error)) return // the watch brings what is true
      throw error
    }
  }

  /**
   * Looks, as the API server does, whether the webhook can be reached: a registration that fails closed before
   * would refuse all configuration for want of a route, a name or a certificate.
   */
  async #probe(signal: AbortSignal): Promise<void> {
    while (!this.#works && !signal.aborted) {
      await sleep(this.#options.probeMs ?? probeMs, signal)
      if (signal.aborted || this.#existing?.get(this.#name) === undefined) continue
      this.#works = await this.#refuses(signal)
      if (!this.#works) continue
      this.#options.log.info('the webhook refuses what is invalid: nothing passes without it from now on')
      this.changed()
    }
  }

  async #refuses(signal: AbortSignal): Promise<boolean> {
    const { client, namespace, revision } = this.#options
    const tried = {
      apiVersion: 'networking.istio.io/v1',
      kind: 'Gateway',
      metadata: {
        namespace,
        name: 'underpass-validation-probe',
        labels: { 'istio.io/rev': revision },
        annotations: refusedAlways
      },
      spec: {
        servers: [{ port: { number: 80, name: 'http', protocol: 'HTTP' }, hosts: ['probe.invalid'] }]
      }
    }
    try {
      await client.create(gateways, tried, { dryRun: true, signal })
      this.#report('the API server does not ask the webhook yet')
    } catch (error) {
      if (error instanceof KubeError && error.message.includes('denied the request')) return true
      if (!signal.aborted) this.#report(messageOf(error))
    }
    return false
  }

  #report(reason: string): void {
    if (reason !== this.#reported) {
      this.#options.log.info('whether the webhook works cannot be seen yet, trying again', { reason })
    }
    this.#reported = reason
  }
}
