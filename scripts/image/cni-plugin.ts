/**
 * Compiles the CNI plug-in to static programs for both architectures with Zig's C compiler, which brings its own C
 * library (musl) and needs nothing of the machine. It is fetched as its makers publish it on PyPI, pinned by digest.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { unzipSync } from 'fflate'
import type { Architecture } from './debian.ts'
import { cache, download, type Pinned } from './download.ts'

const source = path.resolve(import.meta.dirname, '../../daemonset/cni-plugin/istio-cni.c')
const files = 'https://files.pythonhosted.org/packages'
const compilers: Readonly<Record<string, Pinned>> = {
  x64: {
    urls: [
      `${files}/59/e3/2a34676370a11c36b7cd04ffb2439c1089c0530cf4b01408c77cf7f8d9c3/ziglang-0.17.1-py3-none-manylinux_2_12_x86_64.manylinux2010_x86_64.musllinux_1_1_x86_64.whl`
    ],
    sha256: 'ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54'
  },
  arm64: {
    urls: [
      `${files}/91/72/bb7c4f098ba3e535fa2ebefd9f26327ba63fb0672562959255cb5dd37aff/ziglang-0.17.1-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl`
    ],
    sha256: 'b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e'
  }
}
const targets: Readonly<Record<Architecture, string>> = {
  amd64: 'x86_64-linux-musl',
  arm64: 'aarch64-linux-musl'
}

const released = ['-Os', '-s']
/** Ends with SIGILL at whatever the C standard leaves undefined. */
const checked = ['-O1', '-fsanitize=undefined', '-fsanitize-trap=undefined']

/**
 * Writes `istio-cni` and `istio-cni-pass-through`, what an uninstall leaves behind, into the folder; `check` makes the
 * form that tests try to break.
 */
export async function compileCniPlugin(
  architecture: Architecture,
  folder: string,
  { check = false } = {}
): Promise<void> {
  const zig = await compiler()
  mkdirSync(folder, { recursive: true })
  for (const [name, ...flags] of [['istio-cni'], ['istio-cni-pass-through', '-DPASS_THROUGH']] as const) {
    execFileSync(
      zig,
      [
        ...['cc', '-target', targets[architecture], '-static', '-std=c17', ...(check ? checked : released)],
        ...['-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE', ...flags, '-o', path.join(folder, name), source]
      ],
      {
        stdio: ['ignore', 'ignore', 'inherit'],
        env: {
          ...process.env,
          ZIG_GLOBAL_CACHE_DIR: path.join(cache, 'zig'),
          ZIG_LOCAL_CACHE_DIR: path.join(cache, 'zig')
        }
      }
    )
    chmodSync(path.join(folder, name), 0o755)
  }
}

async function compiler(): Promise<string> {
  const pinned = compilers[process.arch]
  if (pinned === undefined)
    throw new Error(`no pinned C compiler for ${process.arch}; build on amd64 or arm64`)
  const folder = path.join(cache, `zig-${pinned.sha256.slice(0, 12)}`)
  const zig = path.join(folder, 'ziglang/zig')
  if (existsSync(zig)) return zig
  const unpacking = `${folder}.${process.pid}`
  for (const [name, content] of Object.entries(unzipSync(readFileSync(await download(pinned))))) {
    const file = path.join(unpacking, name)
    mkdirSync(path.dirname(file), { recursive: true })
    if (!name.endsWith('/')) writeFileSync(file, content)
  }
  chmodSync(path.join(unpacking, 'ziglang/zig'), 0o755)
  rmSync(folder, { recursive: true, force: true })
  renameSync(unpacking, folder)
  return zig
}
