/** Who may import whom, read from every import of the tree. `docs/decisions/0002-layering.md` gives the reasons. */
import t from 'tap'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'

const root = path.dirname(import.meta.dirname)
const programs = ['ztunnel', 'waypoint', 'daemonset', 'controlplane', 'lab', 'cli']
const folders = ['shared', ...programs, 'test', 'scripts']

/** Third-party packages and the only files that may import them ("one door per package"). */
const doors: Readonly<Record<string, readonly string[]>> = {
  'ipaddr.js': ['shared/net/address.ts'],
  jose: ['waypoint/jwt/verify.ts'],
  koffi: ['shared/net/ffi.ts'],
  'node-forge': ['shared/identity/x509.ts'],
  pino: ['shared/telemetry/logger.ts'],
  'prom-client': ['shared/telemetry/exposition.ts'],
  protobufjs: ['shared/xds/schema.ts'],
  '@grpc/grpc-js': ['shared/xds/grpc-client.ts', 'controlplane/serve/grpc-server.ts'],
  ws: ['shared/kube/websocket.ts', 'lab/api-store/websocket.ts'],
  yaml: ['shared/kube/yaml.ts'],
  re2js: ['waypoint/routes/regular-expression.ts'],
  commander: ['cli/program.ts'],
  fflate: ['scripts/image/cni-plugin.ts'],
  tar: ['scripts/image/debian.ts', 'scripts/image/oci.ts']
}

/** Inside shared, words come first: what these files may import of ours. */
const words = ['shared/net/address.ts', 'shared/identity/spiffe-id.ts', 'shared/mesh/model.ts']

interface Import {
  readonly from: string
  readonly to: string
}

const sources = folders.flatMap(folder => globSync(`${folder}/**/*.ts`, { cwd: root }))
const imports = sources.flatMap(importsOf)

t.test('programs meet on the wire, never by import', async t => {
  const crossing = imports.filter(({ from, to }) => {
    const [source, target] = [folderOf(from), folderOf(to)]
    if (!folders.includes(target) || source === target || source === 'test' || source === 'scripts')
      return false
    return target !== 'shared'
  })
  t.strictSame(crossing, [])
})

t.test('every third-party package has one door', async t => {
  const strays = imports.filter(({ from, to }) => {
    const door = doors[packageOf(to)]
    return (
      door !== undefined && !from.startsWith('test/') && !from.startsWith('scripts/') && !door.includes(from)
    )
  })
  t.strictSame(strays, [])
  const undeclared = imports.filter(
    ({ from, to }) => isPackage(to) && doors[packageOf(to)] === undefined && !from.startsWith('test/')
  )
  t.strictSame(undeclared, [], 'a new package is declared in the list of doors')
})

t.test('the scan sees what is there', async t => {
  for (const [name, files] of Object.entries(doors)) {
    t.ok(
      imports.some(({ from, to }) => packageOf(to) === name && files.includes(from)),
      `${name} is imported through its door`
    )
  }
})

t.test('the vocabulary imports only vocabulary', async t => {
  const strays = imports.filter(
    ({ from, to }) => words.includes(from) && !isPackage(to) && !to.startsWith('node:') && !words.includes(to)
  )
  t.strictSame(strays, [])
})

t.test('shared/hbone knows tunnels and peers, never workloads', async t => {
  const strays = imports.filter(
    ({ from, to }) =>
      from.startsWith('shared/hbone/') && /^shared\/(mesh|policy|xds|kube|telemetry\/metrics)/.test(to)
  )
  t.strictSame(strays, [])
})

t.test('decisions touch no socket, file or log', async t => {
  const decisions = /^shared\/(mesh\/(route|pick|decode)|policy\/evaluate)\.ts$|^controlplane\/translate\//
  const strays = imports.filter(
    ({ from, to }) =>
      decisions.test(from) &&
      /^node:(net|http2?|https|tls|fs|dgram|child_process)$|telemetry\/logger/.test(to)
  )
  t.strictSame(strays, [])
})

t.test('only main.ts reads the environment or ends the process', async t => {
  const strays = sources.filter(file => {
    if (/^(test|scripts)\//.test(file) || /(^|\/)main\.ts$/.test(file)) return false
    return /\bprocess\.(env|exit)\b/.test(withoutComments(readFileSync(path.join(root, file), 'utf8')))
  })
  t.strictSame(strays, [])
})

t.test('no file is named after nothing', async t => {
  t.strictSame(
    sources.filter(file => /(^|\/)(utils?|helpers?|common|misc|types|manager|index)\.ts$/.test(file)),
    []
  )
})

function importsOf(file: string): Import[] {
  const text = withoutComments(readFileSync(path.join(root, file), 'utf8'))
  const found: Import[] = []
  const forms = [
    /^\s*(?:import|export)\s[^'";]*?\bfrom\s+'([^']+)'/gm,
    /^\s*import\s+'([^']+)'/gm,
    /\bimport\(\s*'([^']+)'\s*[),]/g
  ]
  for (const match of forms.flatMap(form => [...text.matchAll(form)])) {
    const target = match[1] ?? ''
    const to = target.startsWith('.') ? path.posix.join(path.posix.dirname(file), target) : target
    found.push({ from: file, to })
  }
  return found
}

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/^\s*\/\/.*$/gm, '')
}

function folderOf(file: string): string {
  return file.split('/')[0] ?? ''
}

function isPackage(to: string): boolean {
  return !to.startsWith('node:') && !folders.includes(folderOf(to))
}

function packageOf(to: string): string {
  return to.split('/', to.startsWith('@') ? 2 : 1).join('/')
}
