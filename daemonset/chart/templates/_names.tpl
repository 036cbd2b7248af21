{{/* Labels of every object; takes the root and the part that the object belongs to. */}}
{{- define "underpass.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/part-of: underpass
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Name of the control plane's objects: istiod, or istiod-<revision>. */}}
{{- define "underpass.istiod" -}}
istiod{{ with .Values.revision }}-{{ . }}{{ end }}
{{- end }}

{{- define "underpass.ztunnel" -}}
{{ .Values.ztunnel.resourceName | default "ztunnel" }}
{{- end }}

{{- define "underpass.istioNamespace" -}}
{{ .Values.global.istioNamespace | default .Release.Namespace }}
{{- end }}

{{/* Name of what is of the whole cluster: releases of another namespace or revision have their own. */}}
{{- define "underpass.clusterName" -}}
{{- $root := index . 0 -}}
{{ index . 1 }}{{ with $root.Values.revision }}-{{ . }}{{ end }}-{{ $root.Release.Namespace }}
{{- end }}

{{/* image and imagePullPolicy of a container; takes the root and the values of the part. */}}
{{- define "underpass.image" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- $global := $root.Values.global -}}
{{- $image := $part.image | default $global.image -}}
{{- if contains "/" $image -}}
image: {{ $image | quote }}
{{- else -}}
image: {{ printf "%s/%s:%s" ($part.hub | default $global.hub) $image ($part.tag | default $global.tag | default $root.Chart.AppVersion) | quote }}
{{- end }}
imagePullPolicy: {{ $global.imagePullPolicy }}
{{- end }}

{{/* Environment variables from a map, sorted by name. */}}
{{- define "underpass.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}

{{/* Environment variables that the pod itself answers: name and path in pairs. */}}
{{- define "underpass.podEnv" -}}
{{- range . }}
- name: {{ index . 0 }}
  valueFrom:
    fieldRef:
      fieldPath: {{ index . 1 }}
{{- end }}
{{- end }}

{{/* A folder on the nodes: the value, else that of the platform, else the usual one. */}}
{{- define "underpass.nodeFolder" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $platforms := dict
  "gke" (dict "cniBinDir" "/home/kubernetes/bin")
  "k3d" (dict "cniBinDir" "/bin" "cniConfDir" "/var/lib/rancher/k3s/agent/etc/cni/net.d")
  "k3s" (dict "cniBinDir" "/var/lib/rancher/k3s/data/cni" "cniConfDir" "/var/lib/rancher/k3s/agent/etc/cni/net.d")
  "microk8s" (dict "cniBinDir" "/var/snap/microk8s/current/opt/cni/bin" "cniConfDir" "/var/snap/microk8s/current/args/cni-network")
  "minikube" (dict "cniNetnsDir" "/var/run/docker/netns")
-}}
{{- $usual := dict "cniBinDir" "/opt/cni/bin" "cniConfDir" "/etc/cni/net.d" "cniNetnsDir" "/var/run/netns" -}}
{{- $platform := get $platforms $root.Values.global.platform | default dict -}}
{{ get $root.Values.nodeAgent $name | default (get $platform $name) | default (get $usual $name) }}
{{- end }}

{{- define "underpass.validator" -}}
istio-validator{{ with .Values.revision }}-{{ . }}{{ end }}-{{ .Release.Namespace }}
{{- end }}
