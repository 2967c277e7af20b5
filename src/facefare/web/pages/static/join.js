// An invitation comes behind the "#" of its link, which the browser sends to nobody: into the form, and out of sight.

const invitation = document.getElementById("invitation");
if (location.hash.length > 1) {
  invitation.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
}
