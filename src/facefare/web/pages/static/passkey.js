// Make a passkey, or sign in with one, at the address that the button names; the fields that it names go along. Only what the server must see is sent: never the results of
// extensions, for the secret of the PRF extension is among them and stays on this device.

const button = document.getElementById("passkey");
const problem = document.getElementById("problem");
const making = button.dataset.do === "sign-up";
const at = button.dataset.at ?? (making ? "passkeys" : "sign-in");

const bytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (character) => character.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

class Refused extends Error {}

function beside() {
  const fields = (button.dataset.beside ?? "").split(" ").filter(Boolean);
  return Object.fromEntries(fields.map((name) => [name, document.getElementById(name).value]));
}

async function post(path, body) {
  const response = await fetch(`/app/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify({ ...body, ...beside() }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Refused(answer.problem);
  return answer;
}

async function signUp() {
  const options = await post(`${at}/options`);
  const credential = await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: bytes(options.challenge),
      user: { ...options.user, id: bytes(options.user.id) },
      excludeCredentials: options.excludeCredentials.map((known) => ({ ...known, id: bytes(known.id) })),
      extensions: { prf: {} },
    },
  });
  return post(at, {
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    response: {
      clientDataJSON: text(credential.response.clientDataJSON),
      attestationObject: text(credential.response.attestationObject),
    },
  });
}

async function signIn() {
  const options = await post(`${at}/options`);
  const credential = await navigator.credentials.get({
    publicKey: { ...options, challenge: bytes(options.challenge), allowCredentials: [] },
  });
  const { clientDataJSON, authenticatorData, signature, userHandle } = credential.response;
  return post(at, {
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    response: {
      clientDataJSON: text(clientDataJSON),
      authenticatorData: text(authenticatorData),
      signature: text(signature),
      userHandle: userHandle && text(userHandle),
    },
  });
}

function tell(sentence) {
  problem.textContent = sentence;
  problem.hidden = false;
}

if (window.PublicKeyCredential) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    problem.hidden = true;
    try {
      const { next } = await (making ? signUp() : signIn());
      location.assign(button.dataset.to ?? next);
    } catch (error) {
      tell(error instanceof Refused ? error.message : button.dataset.failed);
      button.disabled = false;
      button.focus();
    } finally {
      button.disabled = false;
    }
  });
} else {
  button.disabled = true;
  tell(button.dataset.unsupported);
}
