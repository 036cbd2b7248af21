/**
 * Writes what is made from the Helm chart: the plain manifests, and the reference of its values.
 *
 *   node scripts/manifests.ts           write daemonset/manifests/underpass.yaml and docs/reference/values.md
 *   node scripts/manifests.ts --check   fail when they are not up to date
 *
 * Needs helm, from the folder that UNDERPASS_PEERS names or from PATH.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { isMap, isNode, parseDocument, type Scalar } from 'yaml'

const root = path.dirname(import.meta.dirname)
const chart = path.join(root, 'daemonset/chart')
const namespace = 'istio-system'
/** Which Kubernetes a program of helm believes in depends on how it was built. */
const kubeVersion = '1.36.0'

const pages: Readonly<Record<string, string>> = {
  'daemonset/manifests/underpass.yaml': plainManifests(),
  'docs/reference/values.md': valuesPage(readFileSync(path.join(chart, 'values.yaml'), 'utf8'))
}
const check = process.argv.includes('--check')
for (const [name, text] of Object.entries(pages)) {
  const file = path.join(root, name)
  if (!check) writeFileSync(file, text)
  else if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
    process.stderr.write(`${name} is not up to date: run node scripts/manifests.ts\n`)
    process.exitCode = 1
  }
}

/** The chart with its own values, for kubectl: without what only Helm reads, and with the namespace. */
function plainManifests(): string {
  const rendered = helm(['template', 'underpass', chart, '-n', namespace, '--kube-version', kubeVersion])
  const objects = rendered
    .split('\n')
    .filter(line => !/^# Source: |^ +helm\.sh\/chart: /.test(line))
    .join('\n')
  return [
    '# Underpass, for kubectl apply --server-side -f. Made from the Helm chart by scripts/manifests.ts: change that.',
    '# Istio’s and the Gateway API’s kinds must be defined in the cluster; underpass install does it.',
    'apiVersion: v1',
    'kind: Namespace',
    'metadata:',
    `  name: ${namespace}`,
    objects
  ].join('\n')
}

function helm(parameters: readonly string[]): string {
  const peers = process.env['UNDERPASS_PEERS']
  const own = path.join(peers ?? '', 'helm')
  const program = peers !== undefined && existsSync(own) ? own : 'helm'
  const home = mkdtempSync(path.join(os.tmpdir(), 'underpass-helm-'))
  try {
    const env = { ...process.env, HELM_CACHE_HOME: home, HELM_CONFIG_HOME: home, HELM_DATA_HOME: home }
    const { status, error, stdout, stderr } = spawnSync(program, parameters, { encoding: 'utf8', env })
    if (error !== undefined) throw new Error(`helm cannot be run: ${error.message}`)
    if (status !== 0) throw new Error(`helm: ${stderr}`)
    return stdout
  } finally {
    rmSync(home, { recursive: true })
  }
}

/** Every value has its comment above it; what is over a group is its introduction. */
function valuesPage(text: string): string {
  const sections = pairsOf(parseDocument(text).contents).flatMap(({ name, about, value }) => [
    `## ${name}`,
    '',
    about,
    '',
    ...(isDocumentedInside(value)
      ? ['| value | default | meaning |', '|---|---|---|', ...rowsOf(name, '', value)]
      : [`Default: \`${jsonOf(value)}\`.`]),
    ''
  ])
  return [
    '# Values of the Helm chart',
    '',
    'Names are those of Istio’s charts where the meaning is the same: of istiod under `controlPlane`, of istio-cni under',
    '`nodeAgent`, of ztunnel under `ztunnel`. A name that is not here is refused. This page is generated from',
    '`daemonset/chart/values.yaml`.',
    '',
    ...sections
  ].join('\n')
}

/** A map without comments inside is one value. */
function rowsOf(place: string, about: string, value: unknown): readonly string[] {
  if (isDocumentedInside(value)) {
    return pairsOf(value).flatMap(one => rowsOf(`${place}.${one.name}`, one.about, one.value))
  }
  return [`| \`${place}\` | \`${jsonOf(value)}\` | ${about.replaceAll('\n', ' ')} |`]
}

function isDocumentedInside(value: unknown): boolean {
  return pairsOf(value).some(({ about }) => about !== '')
}

function jsonOf(value: unknown): string {
  return isNode(value) ? JSON.stringify(value.toJSON()) : ''
}

function pairsOf(node: unknown): readonly { name: string; about: string; value: unknown }[] {
  if (!isMap<Scalar<string>>(node)) return []
  return node.items.map(({ key, value }, index) => {
    // The parser counts a comment before the first name as one of the whole map, behind that of the file.
    const comment = (index === 0 ? node.commentBefore : undefined) ?? key.commentBefore ?? ''
    return { name: key.value, about: (comment.split('\n\n').at(-1) ?? '').replaceAll(/^ /gm, ''), value }
  })
}
