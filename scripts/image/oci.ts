/**
 * An image archive by the OCI image layout (https://specs.opencontainers.org/image-spec/image-layout/), with Docker's
 * `manifest.json` beside it for engines that read only that. The same content gives the same bytes.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { gzipSync } from 'node:zlib'
import * as tar from 'tar'
import type { Architecture } from './debian.ts'

export interface PlatformImage {
  readonly architecture: Architecture
  /** Each a folder whose content is laid over the ones before it. */
  readonly layers: readonly { readonly folder: string; readonly from: string }[]
}

export interface ImageOptions {
  /** `host/name:tag`. */
  readonly reference: string
  readonly version: string
  readonly entrypoint: readonly string[]
  readonly labels: Readonly<Record<string, string>>
}

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

const type = (name: string): string => `application/vnd.oci.image.${name}`

/** Writes the archive; returns the compressed bytes of each platform. */
export function writeImage(
  file: string,
  images: readonly PlatformImage[],
  options: ImageOptions
): ReadonlyMap<Architecture, number> {
  const layout = mkdtempSync(path.join(os.tmpdir(), 'underpass-image-'))
  try {
    const blobs = path.join(layout, 'blobs/sha256')
    mkdirSync(blobs, { recursive: true })
    const put = (mediaType: string, content: Buffer | object): Descriptor => {
      const body = Buffer.isBuffer(content) ? content : Buffer.from(JSON.stringify(content))
      const hash = sha256(body)
      writeFileSync(path.join(blobs, hash), body)
      return { mediaType: type(mediaType), digest: `sha256:${hash}`, size: body.length }
    }
    const platforms = images.map(image => {
      const layers = image.layers.map(({ folder, from }) => {
        const content = tarOf(folder)
        return {
          from,
          diffId: `sha256:${sha256(content)}`,
          blob: put('layer.v1.tar+gzip', gzipSync(content))
        }
      })
      const config = put('config.v1+json', {
        architecture: image.architecture,
        os: 'linux',
        config: {
          Entrypoint: options.entrypoint,
          Env: ['PATH=/usr/local/bin:/usr/sbin:/usr/bin', 'NODE_ENV=production'],
          Labels: options.labels
        },
        rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
        history: layers.map(({ from }) => ({ created_by: from }))
      })
      const manifest = put('manifest.v1+json', {
        schemaVersion: 2,
        mediaType: type('manifest.v1+json'),
        config,
        layers: layers.map(({ blob }) => blob)
      })
      return { ...image, config, manifest, blobs: layers.map(({ blob }) => blob) }
    })
    const index = put('index.v1+json', {
      schemaVersion: 2,
      mediaType: type('index.v1+json'),
      manifests: platforms.map(({ manifest, architecture }) => ({
        ...manifest,
        platform: { architecture, os: 'linux' }
      }))
    })
    const write = (name: string, content: object): void =>
      writeFileSync(path.join(layout, name), JSON.stringify(content))
    write('oci-layout', { imageLayoutVersion: '1.0.0' })
    write('index.json', {
      schemaVersion: 2,
      mediaType: type('index.v1+json'),
      manifests: [
        {
          ...index,
          annotations: {
            'io.containerd.image.name': options.reference,
            'org.opencontainers.image.ref.name': options.version
          }
        }
      ]
    })
    const own = platforms.find(
      ({ architecture }) => architecture === (process.arch === 'arm64' ? 'arm64' : 'amd64')
    )
    const pathOf = ({ digest }: Descriptor): string => `blobs/${digest.replace(':', '/')}`
    if (own !== undefined) {
      write('manifest.json', [
        { Config: pathOf(own.config), RepoTags: [options.reference], Layers: own.blobs.map(pathOf) }
      ] as never)
    }
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(file, tarOf(layout))
    return new Map(
      platforms.map(({ architecture, blobs: parts }) => [
        architecture,
        parts.reduce((sum, { size }) => sum + size, 0)
      ])
    )
  } finally {
    rmSync(layout, { recursive: true })
  }
}

/** A folder as tar: owner 0, date 0, sorted names. */
function tarOf(folder: string): Buffer {
  const names = namesBelow(folder)
  const file = path.join(mkdtempSync(path.join(os.tmpdir(), 'underpass-tar-')), 'layer.tar')
  tar.create({ cwd: folder, file, portable: true, mtime: new Date(0), noDirRecurse: true, sync: true }, names)
  const content = readFileSync(file)
  rmSync(path.dirname(file), { recursive: true })
  return content
}

/** Links are names of their own: what is behind them is not walked twice. */
function namesBelow(folder: string, prefix = ''): string[] {
  return readdirSync(path.join(folder, prefix), { withFileTypes: true })
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap(entry => {
      const name = path.join(prefix, entry.name)
      return entry.isDirectory() ? [name, ...namesBelow(folder, name)] : [name]
    })
}

function sha256(body: Buffer): string {
  return createHash('sha256').update(body).digest('hex')
}
