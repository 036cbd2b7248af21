/** Asks a certificate service as a ztunnel does, for tests. */
import * as grpc from '@grpc/grpc-js'
import { message } from '../../../shared/xds/schema.ts'
import { denialTrailer } from '../../../controlplane/ca/certificate-service.ts'

export interface CertificateQuestion {
  readonly target: string
  readonly rootsPem: string
  readonly token?: string
  readonly csrPem: string
  readonly impersonate?: string
  readonly ttlSeconds?: number
}

export type CertificateAnswer =
  | { readonly kind: 'certificates'; readonly chain: readonly string[] }
  | { readonly kind: 'refused'; readonly code: number; readonly details: string; readonly denial: string }

const request = message('istio.v1.auth.IstioCertificateRequest')
const response = message<{ certChain: readonly string[] }>('istio.v1.auth.IstioCertificateResponse')

export async function requestCertificate(question: CertificateQuestion): Promise<CertificateAnswer> {
  const client = new grpc.Client(
    question.target,
    grpc.credentials.createSsl(Buffer.from(question.rootsPem)),
    {
      'grpc.ssl_target_name_override': 'localhost'
    }
  )
  const metadata = new grpc.Metadata()
  if (question.token !== undefined) metadata.set('authorization', `Bearer ${question.token}`)
  const body = {
    csr: question.csrPem,
    validityDuration: question.ttlSeconds ?? 3600,
    ...(question.impersonate === undefined
      ? {}
      : { metadata: { fields: { ImpersonatedIdentity: { stringValue: question.impersonate } } } })
  }
  try {
    return await new Promise(resolve => {
      client.makeUnaryRequest(
        '/istio.v1.auth.IstioCertificateService/CreateCertificate',
        (value: object) => request.encode(value),
        (bytes: Buffer) => response.decode(bytes),
        body,
        metadata,
        { deadline: Date.now() + 20_000 },
        (error, answer) => {
          if (error === null) resolve({ kind: 'certificates', chain: answer?.certChain ?? [] })
          else {
            const { code, details } = error
            resolve({
              kind: 'refused',
              code,
              details,
              denial: String(error.metadata.get(denialTrailer)[0] ?? '')
            })
          }
        }
      )
    })
  } finally {
    client.close()
  }
}
