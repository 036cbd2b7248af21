/** A client on node1 and a server on node2 in the namespace default, of the application that clusters bring. */
export const clientAndServer = [pod('client', 'node1'), pod('server', 'node2'), service()].join('\n---\n')

function service(): string {
  return `apiVersion: v1
kind: Service
metadata: {name: server, namespace: default}
spec: {selector: {app: server}, ports: [{name: http, port: 80, targetPort: 8080}]}`
}

function pod(name: string, node: string): string {
  return `apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: default, labels: {app: ${name}}}
spec:
  nodeName: ${node}
  terminationGracePeriodSeconds: 0
  containers:
    - {name: app, image: "cluster.local/echo:1", imagePullPolicy: Never, args: [--port, "8080", --grpc, "7070", --tcp, "9090"]}`
}
