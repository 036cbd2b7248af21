/** The image as nodes get it: a valid layout, the same bytes each time, programs that run in it, all of it on its bill. */
import t from 'tap'
import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { globSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'

t.setTimeout(400_000)

const root = path.resolve(import.meta.dirname, '../..')
const own = process.arch === 'arm64' ? 'arm64' : 'amd64'
const { version, optionalDependencies } = JSON.parse(
  readFileSync(path.join(root, 'package.json'), 'utf8')
) as { version: string; optionalDependencies: Readonly<Record<string, string>> }
const nodeVersion = optionalDependencies[`node-linux-${process.arch}`] ?? ''

interface Descriptor {
  readonly digest: string
  readonly size: number
  readonly platform?: { readonly architecture: string }
}

t.test('the Dockerfile builds with the versions that are pinned', async t => {
  const text = readFileSync(path.join(root, 'daemonset/image/Dockerfile'), 'utf8')
  const [, suite] =
    /^const suite = '(\w+)'/m.exec(readFileSync(path.join(root, 'scripts/image/debian.ts'), 'utf8')) ?? []
  t.match(text, `FROM --platform=$BUILDPLATFORM node:${nodeVersion}-${suite}-slim AS build`)
  t.match(text, `underpass.dev/underpass:${version} .`)
  t.strictSame(
    new Set(Object.values(optionalDependencies)),
    new Set([nodeVersion]),
    'one Node for all machines'
  )
})

const needsDebian = spawnSync('dpkg-deb', ['--version']).error === undefined ? false : 'needs dpkg-deb'
const needsRoot = process.getuid?.() === 0 ? false : 'needs root, for chroot'

t.test('npm run image', { skip: needsDebian || needsRoot }, async t => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'underpass-image-test-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const at = (...names: string[]): string => path.join(folder, ...names)
  await build('--out', at('both.tar'))
  await build('--arch', own, '--out', at('own.tar'), '--root', at('rootfs'))
  for (const name of ['both', 'own']) {
    mkdirSync(at(name))
    await execute('tar', ['-xf', at(`${name}.tar`), '-C', at(name)])
  }
  const blob = (name: string, { digest }: Descriptor): Buffer =>
    readFileSync(at(name, 'blobs', digest.replace(':', '/')))
  const json = (content: Buffer): unknown => JSON.parse(content.toString())
  const indexOf = (name: string): readonly Descriptor[] => {
    const { manifests } = json(readFileSync(at(name, 'index.json'))) as { manifests: [Descriptor] }
    return (json(blob(name, manifests[0])) as { manifests: Descriptor[] }).manifests
  }
  const manifestOf = (name: string, { digest, size }: Descriptor) =>
    json(blob(name, { digest, size })) as { config: Descriptor; layers: readonly Descriptor[] }

  await t.test('is a valid layout: every blob is what its name and its descriptor say', async t => {
    t.match(json(readFileSync(at('both', 'oci-layout'))), { imageLayoutVersion: '1.0.0' })
    for (const name of readdirSync(at('both/blobs/sha256'))) {
      const content = readFileSync(at('both/blobs/sha256', name))
      t.equal(createHash('sha256').update(content).digest('hex'), name)
    }
    for (const described of indexOf('both')) {
      const { config, layers } = manifestOf('both', described)
      const { rootfs, architecture } = json(blob('both', config)) as {
        rootfs: { diff_ids: string[] }
        architecture: string
      }
      t.equal(architecture, described.platform?.architecture)
      const unpacked = layers.map(layer => gunzipSync(blob('both', layer)))
      t.strictSame(
        unpacked.map(content => `sha256:${createHash('sha256').update(content).digest('hex')}`),
        rootfs.diff_ids
      )
      for (const one of [described, config, ...layers]) t.equal(blob('both', one).length, one.size)
    }
  })

  await t.test('is for both architectures, and the same bytes each time', async t => {
    t.strictSame(
      indexOf('both')
        .map(one => one.platform?.architecture)
        .toSorted((a, b) => String(a).localeCompare(String(b))),
      ['amd64', 'arm64']
    )
    const find = (name: string): string | undefined =>
      indexOf(name).find(one => one.platform?.architecture === own)?.digest
    t.equal(find('own'), find('both'))
  })

  const described = indexOf('own')[0]
  if (described === undefined) throw new Error('the image has no manifest')
  mkdirSync(at('inside'))
  for (const layer of manifestOf('own', described).layers) {
    await execute('tar', ['-xzf', at('own/blobs', layer.digest.replace(':', '/')), '-C', at('inside')])
  }

  await t.test('lays the same files into the folder for Docker', async t => {
    const files = (name: string): readonly string[] => globSync('**', { cwd: at(name) }).toSorted()
    t.strictSame(files('rootfs'), files('inside'))
    t.ok(files('inside').length > 500)
  })

  await t.test('has every program, each of which finds all that it needs', async t => {
    const runs: readonly (readonly [says: RegExp, code: number, ...words: string[]])[] = [
      [new RegExp(`^v${nodeVersion}`), 0, 'node', '--version'],
      [/^nftables v/, 0, 'nft', '--version'],
      [/^iptables v.*nf_tables/, 0, 'iptables', '--version'],
      [/^ip6tables v.*nf_tables/, 0, 'ip6tables', '--version'],
      [/^iptables v.*legacy/, 0, 'iptables-legacy', '--version'],
      [/^ip utility/, 0, 'ip', '-V'],
      [new RegExp(`"version": *"${version}"`), 0, 'node', '/app/ztunnel/main.js', 'version'],
      [/NODE_NAME is not set/, 78, 'node', '/app/daemonset/main.js'],
      [/MAX_WORKLOAD_CERT_TTL/, 78, 'node', '/app/controlplane/main.js'],
      [new RegExp(version), 0, 'node', '/app/cli/main.js', 'version', '--client']
    ]
    for (const [says, code, ...words] of runs) {
      const { status, stdout, stderr } = spawnSync('chroot', [at('inside'), ...words], {
        encoding: 'utf8',
        env: { PATH: '/usr/local/bin:/usr/sbin:/usr/bin', MAX_WORKLOAD_CERT_TTL: 'for ever' }
      })
      t.match(`${stdout}${stderr}`, says, words.join(' '))
      t.equal(status, code, words.join(' '))
    }
    for (const name of ['istio-cni', 'istio-cni-pass-through']) {
      const program = readFileSync(at('inside/app/cni', name))
      t.equal(program.subarray(1, 4).toString(), 'ELF')
      t.notOk(program.includes('ld-linux'), `${name} runs on nodes with any C library`)
    }
    t.throws(() => readFileSync(at('inside/bin/sh')), 'there is no shell')
  })

  await t.test('has nothing that is not on its bill of materials', async t => {
    const { components } = json(readFileSync(at('own.sbom.json'))) as {
      components: { name: string; version: string }[]
    }
    const listed = new Set(components.map(one => `${one.name}@${one.version}`))
    const packages = globSync('app/node_modules/{,**/node_modules/}{*,@*/*}/package.json', {
      cwd: at('inside')
    })
      .map(file => json(readFileSync(at('inside', file))) as { name?: string; version?: string })
      .filter(
        (one): one is { name: string; version: string } => one.name !== undefined && one.version !== undefined
      )
    t.ok(packages.length > 40)
    for (const one of packages) t.ok(listed.has(`${one.name}@${one.version}`), `${one.name}@${one.version}`)
    t.ok(listed.has(`node-linux-${process.arch}@${nodeVersion}`), 'Node itself')
    for (const name of readdirSync(at('inside/usr/share/doc'))) {
      if (name === 'node') continue
      t.ok(
        components.some(one => one.name === name),
        name
      )
    }
  })
})

async function build(...options: readonly string[]): Promise<void> {
  await execute(process.execPath, ['scripts/image.ts', ...options])
}

async function execute(program: string, parameters: readonly string[]): Promise<void> {
  await promisify(execFile)(program, parameters, {
    cwd: root,
    env: {
      ...process.env,
      NODE_OPTIONS: '',
      PATH: `${path.join(root, 'node_modules/.bin')}:${process.env['PATH']}`
    },
    maxBuffer: 64 << 20
  })
}
