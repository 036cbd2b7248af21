/** What the image is made of, as CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/): npm and Debian packages. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { Architecture, DebianPackage } from './debian.ts'

interface Component {
  readonly type: 'library'
  readonly name: string
  readonly version: string
  readonly purl: string
  readonly licenses?: readonly { readonly expression: string }[]
  readonly hashes?: readonly { readonly alg: 'SHA-512'; readonly content: string }[]
}

export interface Ingredients {
  readonly architecture: Architecture
  /** A folder in which `npm ci` has been. */
  readonly packages: string
  readonly debian: readonly DebianPackage[]
}

/** Returns the document as text; the same ingredients make the same text. */
export function billOfMaterials(version: string, images: readonly Ingredients[]): string {
  const components = images.flatMap(({ architecture, packages, debian }) => [
    ...installedPackages(packages),
    ...debian.map(one => ofDebian(architecture, one))
  ])
  const document = {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { component: { type: 'container', name: 'underpass', version } },
    components: [...new Map(components.map(one => [one.purl, one])).values()]
  }
  return `${JSON.stringify(document, null, 2)}\n`
}

/** What npm wrote down of its own work; `npm sbom` leaves out some of what the tests need too. */
function installedPackages(folder: string): readonly Component[] {
  const file = path.join(folder, 'node_modules/.package-lock.json')
  const { packages } = JSON.parse(readFileSync(file, 'utf8')) as {
    packages: Readonly<Record<string, { version: string; license?: string; integrity?: string }>>
  }
  return Object.entries(packages).map(([place, { version, license, integrity }]) => {
    const name = place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length)
    const sha512 = /^sha512-(.*)$/.exec(integrity ?? '')?.[1]
    return {
      type: 'library',
      name,
      version,
      purl: `pkg:npm/${name.replace('@', '%40')}@${version}`,
      ...(license === undefined ? {} : { licenses: [{ expression: license }] }),
      ...(sha512 === undefined
        ? {}
        : { hashes: [{ alg: 'SHA-512', content: Buffer.from(sha512, 'base64').toString('hex') }] })
    }
  })
}

function ofDebian(architecture: Architecture, { name, version }: DebianPackage): Component {
  const words = [name, version].map(encodeURIComponent).join('@')
  return { type: 'library', name, version, purl: `pkg:deb/debian/${words}?arch=${architecture}` }
}
