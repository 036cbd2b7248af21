/**
 * `npm run image`: builds the one image of all programs, without a registry and without a Docker daemon.
 *
 *   npm run image                     dist/underpass-<version>.tar for amd64 and arm64, and its bill of materials
 *   npm run image -- --arch amd64     only one
 *   npm run image -- --root FOLDER    lays its files there too, for one architecture (daemonset/image/Dockerfile)
 *   npm run image -- --pin            takes the newest Debian packages into scripts/image/debian.json
 */
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { compileCniPlugin } from './image/cni-plugin.ts'
import { type Architecture, debianPackages, pinDebian, prune, unpackDebian } from './image/debian.ts'
import { writeImage } from './image/oci.ts'
import { billOfMaterials } from './image/sbom.ts'

const root = path.dirname(import.meta.dirname)
const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }
const reference = `underpass.dev/underpass:${version}`
/** All that the programs call. */
const programs = new Set([
  ...['node', 'nft', 'ip', 'xtables-nft-multi', 'xtables-legacy-multi'],
  ...['iptables', 'ip6tables'].flatMap(family =>
    ['', '-nft', '-legacy'].flatMap(kind => ['', '-save', '-restore'].map(verb => `${family}${kind}${verb}`))
  )
])

const work = mkdtempSync(path.join(os.tmpdir(), 'underpass-image-'))
try {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string' },
      pin: { type: 'boolean' },
      out: { type: 'string' },
      root: { type: 'string' }
    }
  })
  if (values.pin === true) await pinDebian()
  await build(chosenArchitectures(values.arch), {
    file: path.resolve(root, values.out ?? `dist/underpass-${version}.tar`),
    files: values.root
  })
} catch (error) {
  process.stderr.write(`image: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
} finally {
  rmSync(work, { recursive: true, force: true })
}

async function build(
  architectures: readonly Architecture[],
  { file, files }: { readonly file: string; readonly files: string | undefined }
): Promise<void> {
  if (files !== undefined && architectures.length > 1) throw new Error('--root: choose one with --arch')
  run(process.execPath, [path.join(root, 'scripts/build.ts')], root)
  const images = []
  for (const architecture of architectures) {
    images.push({ architecture, layers: await layersOf(architecture, path.join(work, architecture)) })
  }
  if (files !== undefined) {
    for (const { folder } of images.flatMap(({ layers }) => layers)) {
      cpSync(folder, files, { recursive: true, verbatimSymlinks: true })
    }
  }
  const sizes = writeImage(file, images, {
    reference,
    version,
    entrypoint: ['/usr/local/bin/node', '--disable-warning=ExperimentalWarning'],
    labels: {
      'org.opencontainers.image.title': 'underpass',
      'org.opencontainers.image.version': version,
      'org.opencontainers.image.licenses': 'Apache-2.0'
    }
  })
  const ingredients = architectures.map(architecture => ({
    architecture,
    packages: path.join(work, architecture, 'packages'),
    debian: debianPackages(architecture)
  }))
  writeFileSync(file.replace(/\.tar$/, '.sbom.json'), billOfMaterials(version, ingredients))
  process.stdout.write(
    `${reference}\n${path.relative(process.cwd(), file)}  ${megabytes(statSync(file).size)}\n`
  )
  for (const [architecture, bytes] of sizes) {
    process.stdout.write(`  ${architecture}  ${megabytes(bytes)} compressed\n`)
  }
}

/** Bottom up, by how seldom they change. */
async function layersOf(
  architecture: Architecture,
  folder: string
): Promise<readonly { readonly folder: string; readonly from: string }[]> {
  const [system, runtime, packages, application] = ['system', 'runtime', 'packages', 'application'].map(
    name => path.join(folder, name)
  ) as [string, string, string, string]
  for (const one of [system, packages]) mkdirSync(one, { recursive: true })
  await unpackDebian(architecture, system)
  prune(system, programs)

  for (const name of ['package.json', 'package-lock.json'])
    copyFileSync(path.join(root, name), path.join(packages, name))
  const cpu = architecture === 'amd64' ? 'x64' : 'arm64'
  run(
    'npm',
    [
      'ci',
      '--omit=dev',
      '--ignore-scripts',
      '--os=linux',
      `--cpu=${cpu}`,
      '--libc=glibc',
      '--no-fund',
      '--no-audit',
      '--loglevel=error'
    ],
    packages
  )
  mkdirSync(path.join(runtime, 'usr/local/bin'), { recursive: true })
  const node = path.join(packages, 'node_modules', `node-linux-${cpu}`)
  renameSync(path.join(node, 'bin/node'), path.join(runtime, 'usr/local/bin/node'))
  mkdirSync(path.join(runtime, 'usr/share/doc/node'), { recursive: true })
  copyFileSync(path.join(node, 'LICENSE'), path.join(runtime, 'usr/share/doc/node/copyright'))
  rmSync(node, { recursive: true })

  cpSync(path.join(root, 'dist'), path.join(application, 'app'), {
    recursive: true,
    filter: source => !/\.(tar|sbom\.json)$/.test(source)
  })
  await compileCniPlugin(architecture, path.join(application, 'app/cni'))
  const modules = path.join(folder, 'modules')
  mkdirSync(path.join(modules, 'app'), { recursive: true })
  cpSync(path.join(packages, 'node_modules'), path.join(modules, 'app/node_modules'), {
    recursive: true,
    filter: isShipped
  })
  copyFileSync(path.join(root, 'LICENSE'), path.join(application, 'app/LICENSE'))
  return [
    { folder: system, from: 'Debian packages of scripts/image/debian.json' },
    { folder: runtime, from: 'the pinned Node' },
    { folder: modules, from: 'production packages of package-lock.json' },
    { folder: application, from: 'compiled programs' }
  ]
}

/** Of npm packages the code and the licences, not the type declarations, sources in C++ and maps. */
function isShipped(source: string): boolean {
  return !/\.(d\.ts|d\.mts|d\.cts|map|md|cc|hh|h|cpp)$|\/(koffi\/(vendor|doc)|@types|undici-types|\.bin)(\/|$)/.test(
    source
  )
}

function chosenArchitectures(name: string | undefined): readonly Architecture[] {
  if (name === undefined) return ['amd64', 'arm64']
  if (name === 'amd64' || name === 'arm64') return [name]
  throw new Error(`--arch ${name}: amd64 and arm64 are supported`)
}

function run(command: string, args: readonly string[], cwd: string): void {
  execFileSync(command, args, { cwd, stdio: ['ignore', 'ignore', 'inherit'] })
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`
}
