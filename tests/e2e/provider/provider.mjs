// An OpenID Connect provider on a free port of this machine. The configuration is JSON in PROVIDER: the client's secret, its
// redirect URI, and the claims of each account. The first line that it prints is its address. POST /test/keys replaces its keys.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const settings = JSON.parse(process.env.PROVIDER);
let issuer, provider, generation = 0;

function key(kind, options, alg) {
  const jwk = generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" });
  return { ...jwk, use: "sig", alg, kid: `${alg}-${generation}` };
}

function renew() {
  generation += 1;
  provider = new Provider(issuer, {
    clients: settings.clients,
    jwks: { keys: [key("rsa", { modulusLength: 2048 }, "RS256"), key("ec", { namedCurve: "P-256" }, "ES256")] },
    cookies: { keys: ["made-up-cookie-key"] },
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["preferred_username", "groups"] },
    pkce: { required: () => true },
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256"] },
    ttl: { Interaction: 600, Session: 600, Grant: 600, AccessToken: 600, IdToken: 600, AuthorizationCode: 60 },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...settings.accounts[id] }) }),
  });
}

const server = createServer((request, response) => {
  if (request.method === "POST" && request.url === "/test/keys") {
    renew();
    response.writeHead(204).end();
  } else {
    provider.callback()(request, response);
  }
});
server.listen(0, "127.0.0.1", () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  renew();
  console.log(issuer);
});
// It ends with the test that started it.
process.stdin.on("end", () => process.exit()).resume();
