// An OpenID Connect provider on a free port of this machine. The configuration is JSON in PROVIDER: the client's secret, its
// redirect URI, and the claims of each account. The first line that it prints is its address. POST /test/keys replaces its keys,
// /test/accounts the claims of some accounts (null removes one), and /test/outage makes it respond with 503 or, with false, not.
// GET /test/refresh-tokens lists the refresh tokens that it has issued. It replaces a refresh token at each use, and revokes the
// grant when one is used twice.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const settings = JSON.parse(process.env.PROVIDER);
const issued = [];
let issuer, provider, outage = false, generation = 0;

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
    rotateRefreshToken: true,
    findAccount: (_, id) =>
      settings.accounts[id] === null ? undefined : { accountId: id, claims: () => ({ sub: id, ...settings.accounts[id] }) },
  });
  provider.on("refresh_token.saved", (token) => issued.includes(token.jti) || issued.push(token.jti));
}

const tests = {
  "POST /test/keys": renew,
  "POST /test/accounts": (accounts) => Object.assign(settings.accounts, accounts),
  "POST /test/outage": (value) => { outage = value; },
  "GET /test/refresh-tokens": () => issued,
};

const server = createServer(async (request, response) => {
  const test = tests[`${request.method} ${request.url}`];
  if (test) {
    const body = (await request.toArray()).join("");
    response.end(JSON.stringify(test(body ? JSON.parse(body) : undefined) ?? null));
  } else if (outage) {
    response.writeHead(503).end();
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
