/** What the image is made of, as CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/): npm and Debian packages. */
import { execFileSync } from 'node:child_process'
import type { Architecture, DebianPackage } from './debian.ts'

interface Component {
  readonly type: string
  readonly name: string
  readonly version: string
  readonly purl: string
}

/** `project` is a folder with package.json and package-lock.json. Returns the document as text. */
export function billOfMaterials(
  project: string,
  version: string,
  debian: ReadonlyMap<Architecture, readonly DebianPackage[]>
): string {
  const text = execFileSync(
    'npm',
    ['sbom', '--sbom-format=cyclonedx', '--omit=dev', '--package-lock-only', '--loglevel=error'],
    {
      cwd: project,
      encoding: 'utf8',
      maxBuffer: 64 << 20
    }
  )
  const { components = [], ...rest } = JSON.parse(text) as { components?: readonly Component[] }
  const fromDebian = [...debian].flatMap(([architecture, packages]) =>
    packages.map((one): Component => ({
      type: 'library',
      name: one.name,
      version: one.version,
      purl: `pkg:deb/debian/${encodeURIComponent(one.name)}@${encodeURIComponent(one.version)}?arch=${architecture}`
    }))
  )
  const document = {
    ...rest,
    // npm makes these two anew each time; the same image must have the same document.
    serialNumber: undefined,
    metadata: { component: { type: 'container', name: 'underpass', version } },
    components: [...components, ...fromDebian]
  }
  return `${JSON.stringify(document, null, 2)}\n`
}
