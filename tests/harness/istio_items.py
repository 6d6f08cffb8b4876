"""Items of every kind of Istio's that its API server takes, each with most of the fields that have rules."""

from __future__ import annotations

ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes, namespace: shop, creationTimestamp: "2024-05-01T10:00:00Z"}
spec:
  hosts: [orders.example, "*.shop.example", 10.0.0.7]
  gateways: [istio-system/public, mesh]
  exportTo: [., other]
  http:
    - name: first
      match:
        - uri: {prefix: /api}
          headers: {x-user: {exact: a}, ":method": {regex: "GET|POST"}}
          withoutHeaders: {x-test: {regex: "*"}}
          queryParams: {q: {regex: "^v[0-9]+$"}}
          sourceLabels: {app: front}
          port: 8080
          gateways: [istio-system/public]
          sourceNamespace: shop
      rewrite: {uriRegexRewrite: {match: "^/api/(.*)$", rewrite: '/\\1'}}
      timeout: 1.5s
      retries: {attempts: 3, perTryTimeout: 250ms, retryOn: "5xx,503,reset", backoff: 10ms}
      fault:
        delay: {fixedDelay: 5s, percentage: {value: 0.1}}
        abort: {httpStatus: 503, percentage: {value: 10}}
      mirrors: [{destination: {host: shadow.example, port: {number: 80}}, percentage: {value: 5}}]
      corsPolicy:
        allowOrigins: [{exact: "https://a.example"}, {regex: "https://.*"}]
        allowMethods: [GET, POST]
        allowHeaders: [x-a]
        exposeHeaders: [x-b]
        maxAge: 24h
        allowCredentials: true
      headers: {request: {set: {x-forwarded: "%DOWNSTREAM_REMOTE_ADDRESS%"}, remove: [x-c]}}
      route:
        - {destination: {host: orders.example, subset: v1, port: {number: 80}}, weight: 90}
        - {destination: {host: orders.example, subset: v2}, weight: 10, headers: {response: {add: {x-d: "1"}}}}
    - match: [{uri: {exact: /old}}]
      redirect: {uri: /new, redirectCode: 308, scheme: https, port: 443}
    - match: [{uri: {prefix: /teapot}}]
      directResponse: {status: 418, body: {string: short and stout}}
    - route: [{destination: {host: orders.example}}]
  tls:
    - match: [{sniHosts: [a.shop.example], port: 443, destinationSubnets: [10.0.0.0/8]}]
      route: [{destination: {host: a.shop.example, port: {number: 443}}}]
  tcp:
    - match: [{port: 5432, destinationSubnets: [10.1.2.3], sourceLabels: {app: x}}]
      route: [{destination: {host: db.example}, weight: 100}]
"""
DELEGATE = """\
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: delegate}
spec:
  http: [{route: [{destination: {host: orders.example}}]}]
"""
ROOT = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: ["*"]
  gateways: [public]
  http:
    - match: [{headers: {"@request.auth.claims.group": {exact: a}}}]
      delegate: {name: delegate, namespace: shop}
"""
RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: rule, namespace: shop}
spec:
  host: "*.example"
  exportTo: ["*"]
  trafficPolicy:
    connectionPool:
      tcp:
        maxConnections: 100
        connectTimeout: 30ms
        maxConnectionDuration: 1h
        idleTimeout: 0s
        tcpKeepalive: {time: 7200s, interval: 75s, probes: 3}
      http:
        http1MaxPendingRequests: 1
        http2MaxRequests: 1
        maxRequestsPerConnection: 1
        maxRetries: 1
        idleTimeout: 5s
        h2UpgradePolicy: UPGRADE
        maxConcurrentStreams: 10
        http2KeepAlive: {interval: 10s, timeout: 1s}
    loadBalancer:
      consistentHash:
        httpCookie: {name: user, path: /, ttl: 0s, attributes: [{name: SameSite, value: Strict}]}
        maglev: {tableSize: 65537}
      localityLbSetting:
        enabled: true
        distribute: [{from: eu/a/*, to: {"eu/a/*": 80, "eu/b/*": 20}}]
    outlierDetection:
      consecutive5xxErrors: 7
      interval: 5m
      baseEjectionTime: 15m
      maxEjectionPercent: 50
      minHealthPercent: 10
    tls: {mode: SIMPLE, caCertificates: /etc/ca.pem, sni: a.example, subjectAltNames: [a.example]}
    portLevelSettings:
      - port: {number: 443}
        loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 60s, minimumPercent: 10, aggression: 1.5}}
        tls: {mode: MUTUAL, credentialName: client}
  subsets:
    - {name: v1, labels: {version: v1}}
    - name: v2
      labels: {version: v2}
      trafficPolicy:
        loadBalancer:
          simple: LEAST_REQUEST
          localityLbSetting: {failover: [{from: eu, to: us}], failoverPriority: [team]}
        outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3}
"""
TUNNEL = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: tunnel}
spec:
  host: far.example
  trafficPolicy: {tunnel: {protocol: CONNECT, targetHost: proxy.example, targetPort: 3128}}
  workloadSelector: {matchLabels: {app: a}}
"""
STATIC = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: static, namespace: shop}
spec:
  hosts: [db.example]
  addresses: [240.1.1.0/24]
  ports: [{number: 5432, name: tcp-db, protocol: TCP, targetPort: 15432}, {number: 80, name: http, protocol: HTTP}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints:
    - {address: 10.0.0.1, ports: {tcp-db: 25432}, labels: {version: v1}, weight: 3, locality: eu/a, network: n1}
    - {address: "2001:db8::1", serviceAccount: db}
  exportTo: ["~"]
  subjectAltNames: [spiffe://cluster.local/ns/shop/sa/db]
"""
BY_NAME = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: by-name}
spec:
  hosts: [a.example, b.example]
  ports: [{number: 443, name: tls, protocol: TLS}]
  location: MESH_EXTERNAL
  resolution: DNS
  endpoints: [{address: us.a.example, ports: {tls: 8443}}]
"""
SELECTED = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: selected}
spec:
  hosts: [details.shop.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: details}}
"""
ANY_NAME = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: any-name}
spec:
  hosts: ["*.wikipedia.org"]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: DYNAMIC_DNS
"""
GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: ["*", "shop/*.example", ./a.example]
      tls: {httpsRedirect: true}
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: [a.example]
      bind: 10.0.0.1
      tls:
        mode: MUTUAL
        serverCertificate: /etc/server.pem
        privateKey: /etc/key.pem
        caCertificates: /etc/ca.pem
        minProtocolVersion: TLSV1_2
        maxProtocolVersion: TLSV1_3
        cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384]
    - port: {number: 8443, name: https-2, protocol: HTTPS}
      hosts: [b.example]
      tls: {mode: SIMPLE, credentialName: cert}
    - port: {number: 9443, name: tls, protocol: TLS}
      hosts: ["*.c.example"]
      tls: {mode: PASSTHROUGH}
    - port: {number: 3306, name: mysql, protocol: MYSQL}
      hosts: ["*"]
    - port: {number: 10443, name: https-3, protocol: HTTPS}
      hosts: [d.example]
      tls: {mode: SIMPLE, credentialNames: [rsa, ecdsa]}
"""
SIDECAR = """\
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: sidecar, namespace: shop}
spec:
  workloadSelector: {labels: {app: orders}}
  inboundConnectionPool: {http: {http2MaxRequests: 10}}
  ingress:
    - port: {number: 9080, protocol: HTTP, name: http}
      defaultEndpoint: 127.0.0.1:8080
      captureMode: NONE
      connectionPool: {tcp: {maxConnections: 1}, http: {maxRetries: 1}}
    - port: {number: 9443, protocol: HTTPS, name: https}
      defaultEndpoint: unix:///var/run/x.sock
      bind: 0.0.0.0
      tls: {mode: SIMPLE, serverCertificate: /etc/a.pem, privateKey: /etc/b.pem}
  egress:
    - port: {number: 9000, protocol: HTTP, name: out}
      bind: 127.0.0.1
      hosts: ["shop/*", "~other/a.example", "*/b.example"]
    - port: {number: 0, protocol: MONGO, name: mongo}
      bind: unix:///var/run/mongo.sock
      hosts: [./db.example]
      captureMode: NONE
    - hosts: ["istio-system/*"]
  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: proxy.example, port: {number: 80}, subset: v1}}
"""
FILTER = """\
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: filter, namespace: shop}
spec:
  workloadSelector: {labels: {app: orders}}
  priority: -10
  configPatches:
    - applyTo: HTTP_FILTER
      match:
        context: SIDECAR_INBOUND
        proxy: {proxyVersion: '^1\\.2[0-9].*', metadata: {a: b}}
        listener:
          portNumber: 8080
          filterChain:
            filter:
              name: envoy.filters.network.http_connection_manager
              subFilter: {name: envoy.filters.http.router}
      patch: {operation: INSERT_BEFORE, value: {name: a, typed_config: {a: [1, 2.5, true, null]}}}
    - applyTo: CLUSTER
      match: {cluster: {service: a.example}}
      patch: {operation: MERGE, value: {connect_timeout: 1s}}
    - applyTo: VIRTUAL_HOST
      match: {routeConfiguration: {vhost: {name: a, route: {action: ANY}}}}
      patch: {operation: REMOVE}
"""
ENTRY = """\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: entry}
spec: {address: vm.example, ports: {http: 8080}, labels: {app: a}, network: n1, locality: eu/a, weight: 1}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: socket}
spec: {address: "unix:///var/run/a.sock", labels: {app: a}}
"""
GROUP = """\
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: group}
spec:
  metadata: {labels: {app: a}, annotations: {b: c}}
  template: {ports: {http: 8080}, serviceAccount: default, labels: {app: a}}
  probe:
    initialDelaySeconds: 5
    periodSeconds: 5
    httpGet: {path: /ready, port: 8080, scheme: HTTP, httpHeaders: [{name: Lit-Header, value: Im-The-Best}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: group-2}
spec: {template: {}, probe: {exec: {command: [true-ish]}}}
"""
PEER = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: peer}
spec:
  selector: {matchLabels: {app: a}}
  mtls: {mode: STRICT}
  portLevelMtls: {"8080": {mode: DISABLE}}
"""
REQUEST = """\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: request}
spec:
  selector: {matchLabels: {app: a}}
  jwtRules:
    - issuer: https://a.example
      audiences: [b]
      jwksUri: https://a.example:8443/.well-known/jwks.json
      fromHeaders: [{name: x-jwt, prefix: "Bearer "}]
      fromParams: [token]
      fromCookies: [token]
      outputClaimToHeaders: [{header: x-sub, claim: sub}]
      timeout: 5s
      spaceDelimitedClaims: [scp]
    - issuer: b
      jwks: '{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "1"}]}'
"""
POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: policy, annotations: {istio.io/dry-run: "true"}}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: public}]
  action: DENY
  rules:
    - from:
        - source: {principals: ["cluster.local/ns/a/sa/b"], namespaces: [a], ipBlocks: [10.0.0.0/8, "2001:db8::1"]}
        - source: {serviceAccounts: [a/b, c], trustDomains: ["*.local"]}
      to: [{operation: {methods: [GET], paths: ["/a/{*}/b/{**}", /c*], ports: ["80"], hosts: [a.example]}}]
      when:
        - {key: "request.headers[x]", values: [a]}
        - {key: source.ip, notValues: [10.1.0.0/16]}
        - {key: destination.port, values: ["443"]}
        - {key: "request.auth.claims[iss]", values: [a]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: custom}
spec: {action: CUSTOM, provider: {name: ext}, rules: [{to: [{operation: {paths: [/admin]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nothing}
spec: {}
"""
TELEMETRY = """\
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: telemetry}
spec:
  selector: {matchLabels: {app: a}}
  tracing:
    - providers: [{name: zipkin}]
      match: {mode: CLIENT}
      randomSamplingPercentage: 12.5
      customTags: {a: {literal: {value: b}}, c: {header: {name: x, defaultValue: y}}, d: {environment: {name: E}}}
  metrics:
    - providers: [{name: prometheus}]
      reportingInterval: 5s
      overrides:
        - match: {metric: REQUEST_COUNT, mode: SERVER}
          tagOverrides: {a: {operation: REMOVE}, b: {operation: UPSERT, value: request.host}}
        - match: {customMetric: mine}
          disabled: true
  accessLogging: [{providers: [{name: envoy}], filter: {expression: response.code >= 400}, match: {mode: SERVER}}]
"""
PLUGIN = """\
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: plugin}
spec:
  selector: {matchLabels: {app: a}}
  url: oci://registry.example/plugin:v1
  sha256: 1ef0c9a92b0420cf25f7fe5d481b231464bc88f486ca3b9c83ed5cc21d2f6210
  imagePullPolicy: IfNotPresent
  imagePullSecret: secret
  pluginName: plugin
  pluginConfig: {a: [1, {b: c}]}
  phase: AUTHN
  priority: 10
  failStrategy: FAIL_OPEN
  type: HTTP
  match: [{mode: CLIENT, ports: [{number: 80}, {number: 81}]}]
  vmConfig: {env: [{name: A, valueFrom: HOST}, {name: B, valueFrom: INLINE, value: c}]}
"""
PROXY = """\
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: proxy}
spec: {selector: {matchLabels: {app: a}}, concurrency: 2, environmentVariables: {A: b}, image: {imageType: debug}}
"""
EXAMPLES = (
    *(ROUTES, DELEGATE, ROOT, RULE, TUNNEL, STATIC, BY_NAME, SELECTED, ANY_NAME, GATEWAY, SIDECAR, FILTER, ENTRY),
    *(GROUP, PEER, REQUEST, POLICY, TELEMETRY, PLUGIN, PROXY),
)
"""Texts of items, some of several documents."""
