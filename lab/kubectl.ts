/**
 * `lab kubectl`: the kubectl in PATH, pointed at the lab; without one, the few verbs that a tour needs:
 * get, apply, label, annotate, patch, delete, wait, logs.
 */
import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import path from 'node:path'
import { parseArgs, type ParseArgsConfig } from 'node:util'
import type { KubeClient } from '../shared/kube/client.ts'
import { isNotFound, KubeError } from '../shared/kube/errors.ts'
import { parseYaml, stringifyYaml } from '../shared/kube/yaml.ts'
import type { KubeObject, ResourceType } from '../shared/kube/object.ts'
import { parseDuration } from '../shared/runtime/env.ts'
import { UsageError } from './arguments.ts'
import { Discovery } from './discovery.ts'
import { formatObjects } from './kubectl-table.ts'
import { applyManifests, readManifests } from './manifests.ts'
import { wait as pause } from './wait.ts'

export interface KubectlContext {
  readonly kubeconfig: string
  readonly environment: NodeJS.ProcessEnv
  readonly connect: () => Promise<KubeClient>
  readonly print?: (text: string) => void
}

/** Resolves to the exit status. */
export async function kubectl(words: readonly string[], context: KubectlContext): Promise<number> {
  const { UNDERPASS_LAB_KUBECTL: choice, PATH = '' } = context.environment
  const program = choice === 'builtin' ? undefined : findKubectl(PATH)
  if (program !== undefined) {
    const child = spawn(program, words, {
      stdio: 'inherit',
      env: { ...context.environment, KUBECONFIG: context.kubeconfig }
    })
    return new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? 130 : 143)))
    })
  }
  return smallKubectl(words, context)
}

interface Invocation {
  readonly client: KubeClient
  readonly namespace: string
  readonly allNamespaces: boolean
  readonly values: Readonly<Record<string, unknown>>
  readonly words: readonly string[]
  readonly print: (text: string) => void
}

type Verb = (invocation: Invocation) => Promise<number>

const verbs: Readonly<Record<string, Verb>> = {
  get,
  apply,
  label: invocation => change(invocation, 'labels'),
  annotate: invocation => change(invocation, 'annotations'),
  patch,
  delete: remove,
  wait,
  logs
}

const options: NonNullable<ParseArgsConfig['options']> = {
  namespace: { type: 'string', short: 'n', default: 'default' },
  'all-namespaces': { type: 'boolean', short: 'A' },
  output: { type: 'string', short: 'o', default: 'table' },
  filename: { type: 'string', short: 'f', multiple: true },
  selector: { type: 'string', short: 'l' },
  overwrite: { type: 'boolean' },
  'server-side': { type: 'boolean' },
  patch: { type: 'string', short: 'p' },
  type: { type: 'string', default: 'strategic' },
  for: { type: 'string' },
  timeout: { type: 'string', default: '30s' },
  all: { type: 'boolean' },
  'ignore-not-found': { type: 'boolean' },
  wait: { type: 'boolean' },
  container: { type: 'string', short: 'c' },
  follow: { type: 'boolean' },
  tail: { type: 'string' },
  previous: { type: 'boolean', short: 'p' }
}

async function smallKubectl(words: readonly string[], context: KubectlContext): Promise<number> {
  const [verbName = '', ...rest] = words
  const verb = verbs[verbName]
  if (verb === undefined) {
    throw new UsageError(
      `without kubectl in PATH there is no "${verbName}"; there are ${Object.keys(verbs).join(', ')}`
    )
  }
  const { values, positionals } = parse(verbName, rest)
  const client = await context.connect()
  try {
    return await verb({
      client,
      namespace: String(values['namespace']),
      allNamespaces: values['all-namespaces'] === true,
      values,
      words: positionals,
      print: context.print ?? (text => process.stdout.write(text))
    })
  } catch (error) {
    if (!(error instanceof KubeError)) throw error
    throw new Error(`from server (${error.reason}): ${error.message}`, { cause: error })
  } finally {
    client.close()
  }
}

function parse(
  verb: string,
  words: readonly string[]
): { values: Record<string, unknown>; positionals: string[] } {
  // `-p` is the patch for one verb and the former instance for another.
  const own = Object.entries(options).filter(([name]) => name !== (verb === 'patch' ? 'previous' : 'patch'))
  try {
    const { values, positionals } = parseArgs({
      args: words.filter(word => word !== '--'),
      options: Object.fromEntries(own),
      allowPositionals: true,
      allowNegative: true
    })
    return { values, positionals }
  } catch (error) {
    const [message = ''] = (error as Error).message.split('. ')
    throw new UsageError(`kubectl ${verb}: ${message}`)
  }
}

async function get(invocation: Invocation): Promise<number> {
  const { client, values, words, print } = invocation
  const { type, names } = await target(invocation, words)
  const objects = await chosen(invocation, type, names)
  const output = String(values['output'])
  if (output === 'json' || output === 'yaml') {
    const single = names.length === 1 ? objects[0] : undefined
    const value = single ?? { apiVersion: 'v1', kind: 'List', metadata: {}, items: objects }
    print(output === 'json' ? `${JSON.stringify(value, undefined, 2)}\n` : stringifyYaml(value))
  } else if (output === 'name') {
    print(objects.map(({ metadata }) => `${type.plural}/${metadata.name}\n`).join(''))
  } else if (output.startsWith('jsonpath=')) {
    print(objects.map(object => valueAt(object, output.slice('jsonpath='.length))).join(' '))
  } else if (objects.length === 0) {
    console.error('No resources found')
  } else print(formatObjects(type, objects, invocation.allNamespaces, Date.now()))
  void client
  return 0
}

async function apply({ client, namespace, values, print }: Invocation): Promise<number> {
  const files = (values['filename'] ?? []) as readonly string[]
  if (files.length === 0) throw new UsageError('kubectl apply: name the manifests with -f')
  await applyManifests(client, files.flatMap(readManifests), {
    namespace,
    onApplied: ({ plural, object, change }) => print(`${plural}/${object.metadata.name} ${change}\n`)
  })
  return 0
}

/** `key=value` sets, `key-` removes. */
async function change(invocation: Invocation, field: 'labels' | 'annotations'): Promise<number> {
  const { client, values, words, print } = invocation
  const isChange = (word: string): boolean => /^[^=/]+(\/[^=]+)?=/.test(word) || word.endsWith('-')
  const changes = words.filter(isChange)
  const { type, names } = await target(
    invocation,
    words.filter(word => !isChange(word))
  )
  if (changes.length === 0) throw new UsageError('name what changes: KEY=VALUE sets, KEY- removes')
  for (const object of await chosen(invocation, type, names)) {
    const before = object.metadata[field] ?? {}
    const after = Object.fromEntries(
      changes.map((word): [string, string | null] => {
        if (word.endsWith('-') && !word.includes('=')) return [word.slice(0, -1), null]
        const [key = '', ...rest] = word.split('=')
        return [key, rest.join('=')]
      })
    )
    const clash = Object.entries(after).find(
      ([key, value]) => value !== null && before[key] !== undefined && before[key] !== value
    )
    if (clash !== undefined && values['overwrite'] !== true) {
      throw new Error(`'${clash[0]}' already has a value (${before[clash[0]]}), and --overwrite is not given`)
    }
    await client.patch(type, refOf(object), { metadata: { [field]: after } }, { kind: 'merge' })
    print(`${type.plural}/${object.metadata.name} ${field === 'labels' ? 'labeled' : 'annotated'}\n`)
  }
  return 0
}

async function patch(invocation: Invocation): Promise<number> {
  const { client, values, words, print } = invocation
  const { type, names } = await target(invocation, words)
  const kind = (['strategic', 'merge', 'json'] as const).find(known => known === values['type'])
  if (typeof values['patch'] !== 'string' || kind === undefined) {
    throw new UsageError('kubectl patch: give the patch with -p, and --type strategic, merge or json')
  }
  const body = parseYaml(values['patch'], 'the patch')
  for (const object of await chosen(invocation, type, names)) {
    await client.patch(type, refOf(object), body, { kind })
    print(`${type.plural}/${object.metadata.name} patched\n`)
  }
  return 0
}

async function remove(invocation: Invocation): Promise<number> {
  const { client, namespace, values, words, print } = invocation
  const files = (values['filename'] ?? []) as readonly string[]
  const found: { type: ResourceType; object: Pick<KubeObject, 'metadata'> }[] = []
  if (files.length > 0) {
    const discovery = await Discovery.read(client)
    for (const { object, where } of files.flatMap(readManifests).toReversed()) {
      const type = discovery.ofObject(object)
      if (type === undefined) throw new Error(`${where}: the API has no ${object.kind}`)
      const metadata = type.namespaced ? { namespace, ...object.metadata } : object.metadata
      found.push({ type, object: { metadata } })
    }
  } else {
    const { type, names } = await target(invocation, words)
    if (names.length === 0 && values['selector'] === undefined && values['all'] !== true) {
      throw new UsageError('kubectl delete: name the objects, or give -l or --all')
    }
    for (const object of await chosen(invocation, type, names)) found.push({ type, object })
  }
  for (const { type, object } of found) {
    try {
      await client.delete(type, refOf(object))
      print(`${type.plural} "${object.metadata.name}" deleted\n`)
    } catch (error) {
      if (!isNotFound(error) || (values['ignore-not-found'] !== true && files.length === 0)) throw error
    }
  }
  if (values['wait'] !== false) for (const { type, object } of found) await gone(client, type, object)
  return 0
}

async function gone(
  client: KubeClient,
  type: ResourceType,
  object: Pick<KubeObject, 'metadata'>
): Promise<void> {
  while ((await client.find(type, refOf(object))) !== undefined) await pause(100)
}

/** `--for=condition=Ready`, `condition=Ready=false`, `delete`, `jsonpath={.status.phase}=Running`, `create`. */
async function wait(invocation: Invocation): Promise<number> {
  const { client, values, words, print } = invocation
  const wanted = textOf(values['for'])
  const timeoutMs = parseDuration(String(values['timeout']))
  if (timeoutMs === undefined)
    throw new UsageError(`--timeout ${String(values['timeout'])}: expected a duration such as 30s`)
  const test = waitCondition(wanted)
  const { type, names } = await target(invocation, words)
  const deadline = Date.now() + timeoutMs
  let objects = await chosen(invocation, type, names, wanted !== 'create' && wanted !== 'delete')
  if (wanted === 'create') {
    for (; objects.length === 0 && Date.now() < deadline; await pause(100)) {
      objects = await chosen(invocation, type, names, false)
    }
  }
  if (objects.length === 0 && wanted !== 'delete') throw new Error('no matching resources found')
  for (const object of objects) {
    for (;;) {
      const now = await client.find(type, refOf(object))
      if (test(now)) break
      if (Date.now() > deadline) {
        console.error(`error: timed out waiting for the condition on ${type.plural}/${object.metadata.name}`)
        return 1
      }
      await pause(100)
    }
    print(`${type.plural}/${object.metadata.name} ${wanted === 'delete' ? 'deleted' : 'condition met'}\n`)
  }
  return 0
}

function waitCondition(wanted: string): (object: KubeObject | undefined) => boolean {
  if (wanted === 'delete') return object => object === undefined
  if (wanted === 'create') return object => object !== undefined
  const [, condition, status = 'True'] = /^condition=([^=]+)(?:=(.+))?$/.exec(wanted) ?? []
  if (condition !== undefined) {
    return object => {
      const { conditions = [] } =
        (object as { status?: { conditions?: readonly { type: string; status: string }[] } })?.status ?? {}
      return conditions.some(
        found =>
          found.type.toLowerCase() === condition.toLowerCase() &&
          found.status.toLowerCase() === status.toLowerCase()
      )
    }
  }
  const [, jsonPath, value] = /^jsonpath='?(\{[^}]+\})'?=(.+)$/.exec(wanted) ?? []
  if (jsonPath === undefined) {
    throw new UsageError(`--for ${wanted}: expected condition=TYPE, jsonpath={.path}=VALUE, create or delete`)
  }
  return object => valueAt(object, jsonPath) === value
}

async function logs({ client, namespace, values, words, print }: Invocation): Promise<number> {
  const [pod = ''] = words.map(word => word.replace(/^pods?\//, ''))
  const query = new URLSearchParams()
  if (typeof values['container'] === 'string') query.set('container', values['container'])
  if (typeof values['tail'] === 'string') query.set('tailLines', values['tail'])
  if (values['previous'] === true) query.set('previous', 'true')
  if (values['follow'] === true) throw new UsageError('kubectl logs: --follow needs a kubectl in PATH')
  print(
    String(await client.raw('GET', `/api/v1/namespaces/${namespace}/pods/${pod}/log?${query.toString()}`))
  )
  return 0
}

/** `pods`, `pod web`, `pod/web`, `deploy web other`. */
async function target(
  { client }: Invocation,
  words: readonly string[]
): Promise<{ type: ResourceType; names: readonly string[] }> {
  const [first = '', ...rest] = words
  const [kind = '', name] = first.split('/')
  const type = (await Discovery.read(client)).find(kind)
  if (type === undefined) throw new UsageError(`the server doesn't have a resource type "${kind}"`)
  const names = [...(name === undefined ? [] : [name]), ...rest.map(word => word.split('/').at(-1) ?? '')]
  return { type, names }
}

async function chosen(
  { client, namespace, allNamespaces, values }: Invocation,
  type: ResourceType,
  names: readonly string[],
  mustExist = true
): Promise<readonly KubeObject[]> {
  const place = type.namespaced ? { namespace } : {}
  if (names.length > 0) {
    const found = await Promise.all(
      names.map(name =>
        mustExist && values['ignore-not-found'] !== true
          ? client.get(type, { ...place, name })
          : client.find(type, { ...place, name })
      )
    )
    return found.filter(object => object !== undefined)
  }
  const labelSelector = textOf(values['selector']) || undefined
  return (await client.list(type, { ...(allNamespaces ? {} : place), labelSelector })).items
}

function refOf({ metadata }: Pick<KubeObject, 'metadata'>): { namespace: string | undefined; name: string } {
  return { namespace: metadata.namespace, name: metadata.name }
}

/** `{.status.phase}`, with `[0]` and `['a.b']`. */
export function valueAt(object: unknown, jsonPath: string): string {
  const steps = jsonPath
    .replaceAll(/^\{|\}$/g, '')
    .matchAll(/\.([\w-]+(?:\\\.[\w/-]+)*)|\[(\d+)\]|\['([^']+)'\]/g)
  let value: unknown = object
  for (const [, field, index, quoted] of steps) {
    const key = index ?? quoted ?? (field ?? '').replaceAll(String.raw`\.`, '.')
    value = (value as Record<string, unknown> | undefined | null)?.[key]
  }
  if (value === undefined || value === null) return ''
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function findKubectl(searchPath: string): string | undefined {
  for (const folder of searchPath.split(':').filter(Boolean)) {
    const file = path.join(folder, 'kubectl')
    try {
      accessSync(file, constants.X_OK)
      return file
    } catch {
      // Not in this folder.
    }
  }
  return undefined
}
