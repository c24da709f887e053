from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

admin.site.site_header = "pooling"
admin.site.site_title = "pooling"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="users:login"), name="home"),
    path("admin/", admin.site.urls),
    path("pooling/", include("pooling.urls")),
    path("", include("users.urls")),
]
