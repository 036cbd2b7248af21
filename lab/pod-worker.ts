/** One pod from its sandbox to its end: network, volumes, init containers, containers, status. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { ip, type Ip } from '../shared/net/address.ts'
import { closeNetns, openNetns } from '../shared/net/netns.ts'
import { sleep } from '../shared/runtime/clock.ts'
import { messageOf } from '../shared/runtime/errors.ts'
import type { ObjectAccess } from './api-store/object-access.ts'
import { isEnrolled } from './cni.ts'
import { ContainerLoop } from './container-loop.ts'
import { containerProgram, downwardFolder, type ProgramContext } from './container-program.ts'
import { podSettings, quote, type Mount, type RootTemplate } from './container-root.ts'
import type { Container, ContainerSpec } from './container.ts'
import { environmentOf, MissingReference, podField } from './environment.ts'
import { hostsFile, resolvConf } from './pod-files.ts'
import { labPods, namespaceOf, refOf, type LabContainer, type LabPod } from './kinds.ts'
import type { LabNode, Network, PodNetwork } from './nodes.ts'
import { podStatus, type ContainerReport, type PodReport } from './pod-status.ts'
import { PodVolumes, type VolumeSources } from './volumes.ts'
import { namespaces } from '../shared/kube/core-api.ts'

export interface PodWorkerDeps {
  readonly objects: ObjectAccess
  readonly network: Network
  readonly template: RootTemplate
  readonly program: ProgramContext
  /** Folder of the lab for everything that belongs to pods. */
  readonly folder: string
  readonly sources: Omit<VolumeSources, 'podIps' | 'hostIp'>
  /** Asks the node agent to take the pod in; resolves at once while no agent belongs to the cluster. */
  readonly cniAdd: (
    node: LabNode,
    pod: { readonly namespace: string; readonly name: string },
    network: PodNetwork
  ) => Promise<void>
}

export class PodWorker {
  readonly uid: string
  readonly node: LabNode
  readonly #deps: PodWorkerDeps
  readonly #folder: string
  readonly #stopping = new AbortController()
  readonly #startedAt = Date.now()
  #pod: LabPod
  #init: ContainerLoop[] = []
  #main: ContainerLoop[] = []
  #network: PodNetwork | undefined
  #netns: number | undefined
  #nodeFd: number | undefined
  #problem: PodReport['problem']
  #volumes: PodVolumes | undefined
  #reportPending = false
  #running: Promise<void> | undefined
  #ended: Promise<void> | undefined

  constructor(deps: PodWorkerDeps, node: LabNode, pod: LabPod) {
    this.#deps = deps
    this.node = node
    this.#pod = pod
    this.uid = pod.metadata.uid ?? ''
    this.#folder = path.join(deps.folder, 'pods', this.uid)
  }

  get pod(): LabPod {
    return this.#pod
  }

  /** Descriptor of the pod's network namespace; undefined before it exists. */
  get netns(): number | undefined {
    return this.#netns
  }

  loop(container: string): ContainerLoop | undefined {
    return [...this.#main, ...this.#init].find(({ name }) => name === container)
  }

  /** The object has changed: what containers read of it is brought up to date. */
  update(pod: LabPod): void {
    this.#pod = pod
    this.refresh()
  }

  /** Writes volumes again after an object that they are made of has changed. */
  refresh(): void {
    if (this.#volumes === undefined || this.#stopping.signal.aborted) return
    try {
      this.#volumes.write(this.#pod)
      this.#writeDownward()
    } catch (error) {
      // What is gone stays as it was in a running container.
      if (!(error instanceof MissingReference)) throw error
    }
  }

  /** Starts the pod; resolves when its containers have ended for good or it was stopped. */
  run(): Promise<void> {
    this.#running ??= this.#run()
    return this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    try {
      if (!(await this.#untilDone(() => this.#makeSandbox(), 'FailedCreatePodSandBox'))) return
      if (!(await this.#untilDone(async () => this.#makeVolumes(), 'FailedMount'))) return
      this.#makeLoops()
      this.#report()
      const sidecars: Promise<void>[] = []
      for (const [index, loop] of this.#init.entries()) {
        const running = loop.run()
        if (this.#pod.spec?.initContainers?.[index]?.restartPolicy === 'Always') {
          sidecars.push(running)
          while (!loop.report().started && !signal.aborted) await sleep(50, signal)
        } else {
          await running
          if (loop.report().state.terminated?.exitCode !== 0) return
        }
        if (signal.aborted) return
      }
      await Promise.all(this.#main.map(loop => loop.run()))
      await Promise.all(this.#init.map(loop => loop.stop(2000)))
      await Promise.all(sidecars)
    } finally {
      this.#report()
      if (!signal.aborted) await this.#removeSandbox()
    }
  }

  /** Ends everything within `graceMs` and removes what was made. Idempotent. */
  stop(graceMs: number): Promise<void> {
    this.#ended ??= this.#stop(graceMs)
    return this.#ended
  }

  async #stop(graceMs: number): Promise<void> {
    this.#stopping.abort()
    await Promise.all(this.#main.map(loop => loop.stop(graceMs)))
    await Promise.all(this.#init.map(loop => loop.stop(graceMs)))
    // A step that was under way may have made something since.
    await this.#running?.catch(() => undefined /* Told to whoever started it. */)
    await this.#removeSandbox()
    rmSync(this.#folder, { recursive: true, force: true })
    rmSync(this.#enterFolder(), { recursive: true, force: true })
  }

  /** Tries until it works; false when the pod is to end before. */
  async #untilDone(step: () => Promise<void>, reason: string): Promise<boolean> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      try {
        await step()
        this.#problem = undefined
        return !signal.aborted
      } catch (error) {
        this.#problem = { reason, message: messageOf(error) }
        this.#report()
        await sleep(500, signal)
      }
    }
    return false
  }

  async #makeSandbox(): Promise<void> {
    const { network, cniAdd, objects } = this.#deps
    const hostNetwork = this.#pod.spec?.hostNetwork === true
    this.#network ??= hostNetwork
      ? {
          netns: this.node.netns,
          ips: [this.node.ipv4, ...(this.node.ipv6 === undefined ? [] : [this.node.ipv6])]
        }
      : await network.addPod(this.node, `cni-${this.uid}`)
    this.#netns ??= openNetns(this.#network.netns)
    const namespace = objects.get(namespaces, { name: namespaceOf(this.#pod) })
    if (isEnrolled(this.#pod, namespace?.metadata.labels ?? {})) {
      const { name } = this.#pod.metadata
      await cniAdd(this.node, { namespace: namespaceOf(this.#pod), name }, this.#network)
    }
  }

  async #makeVolumes(): Promise<void> {
    const { sources, folder } = this.#deps
    mkdirSync(path.join(this.#folder, 'downward'), { recursive: true })
    mkdirSync(folder, { recursive: true })
    this.#volumes = new PodVolumes(path.join(this.#folder, 'volumes'), { ...sources, ...this.#addresses() })
    this.#volumes.write(this.#pod)
    this.#writeDownward()
  }

  #makeLoops(): void {
    const { initContainers = [], containers = [], restartPolicy = 'Always' } = this.#pod.spec ?? {}
    const initPolicy = restartPolicy === 'Never' ? 'Never' : 'OnFailure'
    this.#init = initContainers.map(container =>
      this.#loopOf(container, 'init', container.restartPolicy === 'Always' ? 'Always' : initPolicy)
    )
    this.#main = containers.map(container => this.#loopOf(container, 'main', restartPolicy))
  }

  #loopOf(
    container: LabContainer,
    purpose: 'init' | 'main',
    restartPolicy: 'Always' | 'OnFailure' | 'Never'
  ): ContainerLoop {
    return new ContainerLoop({
      container,
      template: this.#deps.template,
      restartPolicy,
      sidecar: purpose === 'init' && container.restartPolicy === 'Always',
      prepare: () => this.#prepare(container, purpose),
      network: {
        netns: this.#nodeNetns(),
        podIp: this.#network?.ips[0] ?? ip('127.0.0.1'),
        fromProbeSource: this.#pod.spec?.hostNetwork !== true
      },
      onChange: () => this.#report(),
      onStart: instance => this.#writeEnterScript(container, instance)
    })
  }

  #prepare(
    container: LabContainer,
    purpose: 'init' | 'main'
  ): { program: ReturnType<typeof containerProgram>; spec: ContainerSpec } {
    const { sources, program: context } = this.#deps
    const pod = this.#pod
    const environment = environmentOf(pod, container, { ...sources, ...this.#addresses() })
    const program = containerProgram(pod, container, environment, context, purpose)
    return {
      program,
      spec: {
        folder: path.join(this.#folder, 'containers', container.name),
        hostname: pod.spec?.hostNetwork === true ? this.node.name : (pod.spec?.hostname ?? pod.metadata.name),
        workingDir: container.workingDir ?? '/',
        mounts: this.#mounts(container),
        privileges: program.privileges,
        netns: this.#network?.netns ?? '',
        command: program.command,
        environment,
        nodeProcesses: program.privileges === 'node'
      }
    }
  }

  #mounts(container: LabContainer): Mount[] {
    const pod = this.#pod
    const ips = this.#network?.ips ?? []
    return [
      ...podSettings(path.join(this.#folder, 'etc'), {
        resolvConf: resolvConf(pod),
        hosts: hostsFile(pod, ips),
        hostname: pod.spec?.hostname ?? pod.metadata.name
      }),
      { source: path.join(this.#folder, 'downward'), target: downwardFolder, readOnly: true },
      ...(this.#volumes?.mounts(pod, container) ?? [])
    ]
  }

  /** `lab exec` and whoever looks for a way into a container find it here. */
  #writeEnterScript(container: LabContainer, instance: Container): void {
    if (instance.exit !== undefined || instance.pid === undefined) return
    const folder = this.#enterFolder()
    mkdirSync(folder, { recursive: true })
    const words = instance.enter([]).map(quote).join(' ')
    writeFileSync(path.join(folder, container.name), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o700 })
  }

  #enterFolder(): string {
    return path.join(this.#deps.folder, 'enter', namespaceOf(this.#pod), this.#pod.metadata.name)
  }

  #writeDownward(): void {
    const text = podField(this.#pod, 'metadata.annotations', this.#addresses()) ?? ''
    writeFileSync(path.join(this.#folder, 'downward', 'annotations'), text)
  }

  #addresses(): { podIps: readonly Ip[]; hostIp: Ip } {
    return { podIps: this.#network?.ips ?? [], hostIp: this.node.ipv4 }
  }

  #nodeNetns(): number {
    this.#nodeFd ??= openNetns(this.node.netns)
    return this.#nodeFd
  }

  async #removeSandbox(): Promise<void> {
    for (const fd of [this.#netns, this.#nodeFd]) if (fd !== undefined) closeNetns(fd)
    this.#netns = undefined
    this.#nodeFd = undefined
    if (this.#network !== undefined && this.#pod.spec?.hostNetwork !== true) {
      await this.#deps.network.removePod(this.node, `cni-${this.uid}`)
    }
  }

  /** Writes the status once for all changes of this turn. */
  #report(): void {
    if (this.#reportPending) return
    this.#reportPending = true
    setImmediate(() => {
      this.#reportPending = false
      this.#writeStatus()
    })
  }

  #writeStatus(): void {
    const { objects } = this.#deps
    objects.edit(
      labPods,
      refOf(this.#pod),
      current => {
        if (current.metadata.uid !== this.uid) return current
        const status = podStatus(current, this.#reportNow(), Date.now())
        return JSON.stringify(status) === JSON.stringify(current.status) ? current : { ...current, status }
      },
      { subresource: 'status', fieldManager: 'kubelet' }
    )
  }

  #reportNow(): PodReport {
    const waiting = (containers: readonly LabContainer[] | undefined): ContainerReport[] =>
      (containers ?? []).map(({ name, image = '', restartPolicy }) => ({
        name,
        image,
        says: '',
        pid: undefined,
        state: { waiting: { reason: this.#problem?.reason ?? 'PodInitializing' } },
        lastState: {},
        started: false,
        ready: false,
        restarts: 0,
        sidecar: restartPolicy === 'Always'
      }))
    const { spec } = this.#pod
    return {
      ips: this.#network?.ips ?? [],
      hostIp: this.node.ipv4,
      startedAt: this.#startedAt,
      sandbox: this.#netns !== undefined,
      init: this.#init.length > 0 ? this.#init.map(loop => loop.report()) : waiting(spec?.initContainers),
      main: this.#main.length > 0 ? this.#main.map(loop => loop.report()) : waiting(spec?.containers),
      ...(this.#problem === undefined ? {} : { problem: this.#problem })
    }
  }
}
