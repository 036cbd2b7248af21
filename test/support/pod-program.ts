/** A file of the tests as the program of a pod, run by the Node of our image. */
import { readFileSync } from 'node:fs'
import { imageReference } from './image.ts'

/** The fields of a container; the file may import nothing of ours, for the pod gets its text only. */
export function podProgram(file: string, args: readonly string[] = []): object {
  return {
    image: imageReference,
    imagePullPolicy: 'Never',
    args: [
      '--input-type=module-typescript',
      '--disable-warning=ExperimentalWarning',
      '-e',
      readFileSync(file, 'utf8'),
      '--',
      ...args
    ],
    securityContext: { runAsUser: 1000, readOnlyRootFilesystem: true }
  }
}
